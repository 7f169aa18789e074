// What a client has sent and the backend has not been given, in groups: messages up to Query, Sync, Flush or
// FunctionCall, or the end of a COPY. Remembers how much of a group has been given. Pure.

const EARLY = 262_144 // bytes of an incomplete group with which a turn is begun
const ROOM = 1_048_576 // bytes after which the client is not read from
const GROUP_END = new Set('QSFHcf')
const SYNC_POINT = new Set('QSF')
const COPY_MESSAGE = new Set('dcf')
const ZEROS = Buffer.alloc(65_536)

/** The messages of one connection between its reader and the backend. */
export class Pending {
  #messages = [] // [type, bytes]
  #size = 0
  #groups = 0 // complete ones
  #owed = 0 // bytes of CopyData that must follow what was given of it
  /** Whether a group has been given in part. */
  open = false
  /** Whether extended messages were given after the last Sync. */
  unsynced = false

  /** What is there, as [type, bytes]. */
  get messages() {
    return this.#messages
  }

  get empty() {
    return this.#messages.length === 0
  }

  get full() {
    return this.#size >= ROOM
  }

  /** Whether there is a complete group. */
  get complete() {
    return this.#groups > 0
  }

  /** Whether there is enough for a turn. */
  get due() {
    return this.complete || this.#size > EARLY
  }

  /** Whether the backend waits for the rest of a CopyData message. */
  get owing() {
    return this.#owed > 0
  }

  /** Add a message; *held*: in a turn. */
  push(type, bytes, held) {
    if (COPY_MESSAGE.has(type) && !held && this.empty) return // as PostgreSQL: ignored
    this.#messages.push([type, bytes])
    this.#size += bytes.length
    if (GROUP_END.has(type)) this.#groups++
  }

  /** Take the first message, which is given to the backend now. */
  shift() {
    const message = this.#messages.shift()
    const [type, bytes] = message
    this.#uncount(message)
    this.open = !GROUP_END.has(type)
    if (type === 'd') this.#owed = (this.#owed || 1 + bytes.readUInt32BE(1)) - bytes.length
    if (SYNC_POINT.has(type)) this.unsynced = false
    else if (!COPY_MESSAGE.has(type)) this.unsynced = true
    return message
  }

  /** Throw away all up to the first sync point; whether there is one. */
  drop() {
    const length = this.#messages.findIndex(([type]) => SYNC_POINT.has(type)) + 1
    for (const message of this.#messages.splice(0, length)) this.#uncount(message)
    return length > 0
  }

  /** Throw away all that has not been given. */
  clear() {
    this.#messages = []
    this.#size = this.#groups = 0
  }

  /** Pieces with which to fill up the message that was given in part. */
  *fill() {
    while (this.#owed > 0) {
      const piece = ZEROS.subarray(0, Math.min(this.#owed, ZEROS.length))
      yield piece
      this.#owed -= piece.length
    }
  }

  /** What was given in part has been brought to an end. */
  ended() {
    this.open = this.unsynced = false
  }

  #uncount([type, bytes]) {
    this.#size -= bytes.length
    if (GROUP_END.has(type)) this.#groups--
  }
}
