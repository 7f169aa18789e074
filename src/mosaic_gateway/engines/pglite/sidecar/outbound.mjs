// Scans the backend's output. Pure.
//
// Most output is passed on unchanged and uncopied. Complete messages of the few types that a session must inspect or
// change are passed to `taken`, and its result is sent in their place.
import { HEADER } from './messages.mjs'

const TAKEN = new Set([...'ZEA'].map((type) => type.charCodeAt(0)))
const COMPLETE = 'C'.charCodeAt(0) // taken only on request

/** Splits the backend's output into the pieces to send. */
export class ReplyScanner {
  #taken
  #carry = null // the beginning of an incomplete message
  #skip = 0 // bytes of an unchanged message that have not arrived yet
  /** Whether CommandComplete is also passed to `taken`. */
  takesComplete = false
  /** The type of the last message that began, '' before the first. */
  last = ''

  constructor(taken) {
    this.#taken = taken
  }

  /** Whether the output sent so far ends with a complete message. */
  get whole() {
    return this.#skip === 0
  }

  /** The next *count* bytes end a message whose beginning was written directly to the socket. */
  expect(count) {
    this.#skip += count
  }

  /** Process *chunk*; return the buffers to send. */
  push(chunk) {
    if (this.#carry !== null) {
      chunk = Buffer.concat([this.#carry, chunk])
      this.#carry = null
    }
    const out = []
    let from = 0 // the first byte that is not in `out` yet
    let at = this.#skip
    while (at < chunk.length) {
      if (chunk.length - at < HEADER) break
      const end = at + 1 + chunk.readUInt32BE(at + 1)
      const type = chunk[at]
      if (TAKEN.has(type) || (this.takesComplete && type === COMPLETE)) {
        if (end > chunk.length) break
        if (at > from) out.push(chunk.subarray(from, at))
        const instead = this.#taken((this.last = String.fromCharCode(type)), chunk.subarray(at, end))
        if (instead !== null) out.push(instead)
        from = end
      } else {
        this.last = String.fromCharCode(type)
      }
      at = end
    }
    if (at < chunk.length) {
      this.#skip = 0
      this.#carry = Buffer.from(chunk.subarray(at))
      if (at > from) out.push(chunk.subarray(from, at))
    } else {
      this.#skip = at - chunk.length
      if (chunk.length > from) out.push(chunk.subarray(from))
    }
    return out
  }
}
