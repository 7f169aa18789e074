// Cuts what a client sends into messages, whatever pieces it arrives in. Pure.
//
// Nothing is reserved for a message before its bytes have come, and what has come is put together once. CopyData
// alone may be handed on in pieces: one message of it can be as large as the table.
import { HEADER } from './messages.mjs'

const KNOWN = new Set('QPBEDCSHFXdcfp')
const STARTUP_LIMIT = 10_000 // bytes, PostgreSQL's MAX_STARTUP_PACKET_LENGTH
const PIECE = 65_536 // bytes: CopyData that is longer is handed on as it comes

/** The longest message that is taken whole. A backend with a heap of 2 GiB could not work with much more. */
export const MESSAGE_LIMIT = 256 * 1024 * 1024

/** What came is not the protocol. */
export class ProtocolError extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

/** The messages of one connection. `push` what came, then `startup` or `next` until they return null. */
export class MessageReader {
  #chunks = []
  #size = 0
  #left = 0 // bytes of a CopyData message that are still to come

  push(chunk) {
    this.#chunks.push(chunk)
    this.#size += chunk.length
  }

  /** Bytes that have come and were not handed on. */
  get size() {
    return this.#size
  }

  /** The next packet without a type, as it stands at the beginning of a connection; null if it is not all there. */
  startup() {
    if (this.#size < 8) return null
    const length = this.#peek(8).readUInt32BE(0)
    if (length < 8 || length > STARTUP_LIMIT) throw new ProtocolError('08P01', 'invalid length of startup packet')
    return this.#size < length ? null : this.#take(length)
  }

  /** The next message as {type, bytes}, or a piece of CopyData; null if it is not all there. */
  next() {
    if (this.#left > 0) return this.#piece(Math.min(this.#left, this.#size))
    if (this.#size < HEADER) return null
    const header = this.#peek(HEADER)
    const type = String.fromCharCode(header[0])
    const length = header.readUInt32BE(1)
    if (!KNOWN.has(type)) throw new ProtocolError('08P01', `invalid frontend message type ${header[0]}`)
    if (length < 4 || length >= 2 ** 30) throw new ProtocolError('08P01', 'invalid message length')
    if (type === 'd' && length > PIECE) {
      this.#left = 1 + length
      return this.#piece(Math.min(this.#left, this.#size))
    }
    if (length > MESSAGE_LIMIT) throw new ProtocolError('54000', `a message of ${length} bytes is more than this server takes`)
    return this.#size < 1 + length ? null : { type, bytes: this.#take(1 + length) }
  }

  #piece(length) {
    if (length === 0) return null
    this.#left -= length
    return { type: 'd', bytes: this.#take(length) }
  }

  #peek(length) {
    if (this.#chunks[0].length < length) this.#chunks = [Buffer.concat(this.#chunks)]
    return this.#chunks[0]
  }

  #take(length) {
    this.#size -= length
    const first = this.#chunks[0]
    if (first.length > length) {
      this.#chunks[0] = first.subarray(length)
      return first.subarray(0, length)
    }
    if (first.length === length) return this.#chunks.shift()
    const whole = Buffer.concat(this.#chunks)
    this.#chunks = whole.length > length ? [whole.subarray(length)] : []
    return whole.subarray(0, length)
  }
}
