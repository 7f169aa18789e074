// Splits a client's byte stream into messages. Pure.
//
// No memory is allocated for a message before its bytes have arrived, and they are concatenated only once. CopyData
// alone may be passed on in pieces: one such message can be as large as a table.
import { HEADER } from './messages.mjs'

const KNOWN = new Set('QPBEDCSHFXdcfp')
const STARTUP_LIMIT = 10_000 // bytes, PostgreSQL's MAX_STARTUP_PACKET_LENGTH
const PIECE = 65_536 // bytes: longer CopyData is passed on as it arrives

/** Maximum size of a message. A backend with a heap of 2 GiB could not process much larger ones. */
export const MESSAGE_LIMIT = 256 * 1024 * 1024

/** The input violates the protocol. */
export class ProtocolError extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

/** The messages of one connection: `push` input, then call `startup` or `next` until they return null. */
export class MessageReader {
  #chunks = []
  #size = 0
  #left = 0 // bytes of a CopyData message that have not been returned yet

  push(chunk) {
    this.#chunks.push(chunk)
    this.#size += chunk.length
  }

  /** Bytes received and not yet returned. */
  get size() {
    return this.#size
  }

  /** The next start-up packet, which has no type byte; null if it is incomplete. */
  startup() {
    if (this.#size < 8) return null
    const length = this.#peek(8).readUInt32BE(0)
    if (length < 8 || length > STARTUP_LIMIT) throw new ProtocolError('08P01', 'invalid length of startup packet')
    return this.#size < length ? null : this.#take(length)
  }

  /** The next message as {type, bytes}, or a piece of CopyData; null if it is incomplete. */
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
    if (length > MESSAGE_LIMIT) throw new ProtocolError('54000', `a message of ${length} bytes exceeds this server's limit`)
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
