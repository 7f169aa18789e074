// Client messages not yet sent to the backend, in groups: up to Query, Sync, Flush or FunctionCall, or the end of a
// COPY. Also records how much of a group has been sent. Pure.

const EARLY = 262_144 // bytes of an incomplete group after which a turn begins
const ROOM = 1_048_576 // bytes after which reading from the client pauses
const GROUP_END = new Set('QSFHcf')
const SYNC_POINT = new Set('QSF')
const COPY_MESSAGE = new Set('dcf')
const ZEROS = Buffer.alloc(65_536)

/** The queue of messages between a connection's reader and the backend. */
export class Pending {
  #messages = [] // [type, bytes]
  #size = 0
  #groups = 0 // number of complete groups
  #owed = 0 // bytes that complete a partly sent CopyData message
  /** Whether a group has been sent in part. */
  open = false
  /** Whether extended-query messages were sent after the last Sync. */
  unsynced = false

  /** The queued messages as [type, bytes]. */
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

  /** Whether there is enough to begin a turn. */
  get due() {
    return this.complete || this.#size > EARLY
  }

  /** Whether the backend waits for the rest of a CopyData message. */
  get owing() {
    return this.#owed > 0
  }

  /** Add a message; *inTurn*: the session has its turn. */
  push(type, bytes, inTurn) {
    if (COPY_MESSAGE.has(type) && !inTurn && this.empty) return // ignored, as in PostgreSQL
    this.#messages.push([type, bytes])
    this.#size += bytes.length
    if (GROUP_END.has(type)) this.#groups++
  }

  /** Remove the first message, to be sent to the backend now. */
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

  /** Discard all messages up to the first sync point; return whether there is one. */
  drop() {
    const length = this.#messages.findIndex(([type]) => SYNC_POINT.has(type)) + 1
    for (const message of this.#messages.splice(0, length)) this.#uncount(message)
    return length > 0
  }

  /** Discard all messages that have not been sent. */
  clear() {
    this.#messages = []
    this.#size = this.#groups = 0
  }

  /** Yield zero bytes that complete a partly sent CopyData message. */
  *fill() {
    while (this.#owed > 0) {
      const piece = ZEROS.subarray(0, Math.min(this.#owed, ZEROS.length))
      yield piece
      this.#owed -= piece.length
    }
  }

  /** The partly sent group has been ended. */
  ended() {
    this.open = this.unsynced = false
  }

  #uncount([type, bytes]) {
    this.#size -= bytes.length
    if (GROUP_END.has(type)) this.#groups--
  }
}
