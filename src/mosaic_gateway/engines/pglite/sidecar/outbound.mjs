// Follows what the backend answers while it passes by. Pure.
//
// Nearly everything goes through untouched and uncopied. Taken out and handed to `taken` are whole messages of the few
// types that a session must see or change; what that returns goes on in their place.
import { HEADER } from './messages.mjs'

const TAKEN = new Set([...'ZEA'].map((type) => type.charCodeAt(0)))
const OFTEN = 'C'.charCodeAt(0) // only taken when asked for

/** One backend stream, cut into the pieces to send. */
export class ReplyScanner {
  #taken
  #carry = null // the beginning of a message that is not all there
  #skip = 0 // bytes of an untouched message that are still to come
  /** Whether CommandComplete is wanted, too. */
  curious = false
  /** The type of the last message that began, '' before the first. */
  last = ''

  constructor(taken) {
    this.#taken = taken
  }

  /** Whether all that was sent ends with a whole message. */
  get whole() {
    return this.#skip === 0
  }

  /** *count* bytes will come that end a message begun elsewhere. */
  expect(count) {
    this.#skip += count
  }

  /** Take *chunk*, return the buffers to send. */
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
      if (TAKEN.has(type) || (this.curious && type === OFTEN)) {
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
