// The client's end of a connection: its socket, when it was last heard of, and whether anything can still be sent to it.
//
// While a group runs, the backend may have the socket's descriptor and write to it itself. Closed then, the descriptor's
// number could become another connection's; so the socket is closed once it is back.

const LOST = 262_144 // bytes of output for a vanished client after which its statement is interrupted

/** *events* has `data(chunk)`, `drain()`, `end()` and `vanish()`, which may be called more than once. */
export class Client {
  #socket
  #lent = false // the backend has our socket
  #closing = null // what closes it once it is back
  #gone = false // nothing more can be sent
  #lost = 0
  /** When it last did something. */
  seen = performance.now()

  constructor(socket, events) {
    this.#socket = socket
    socket.on('data', (chunk) => {
      this.touch()
      events.data(chunk)
    })
    socket.on('drain', () => {
      this.touch()
      events.drain()
    })
    socket.on('end', () => events.end())
    socket.on('error', () => {})
    const destroy = socket._destroy
    socket._destroy = (error, callback) => {
      this.#closing = () => destroy.call(socket, error, callback)
      if (!this.#lent) return this.#closing()
      socket._handle?.readStop()
      setImmediate(() => events.vanish())
    }
    socket.on('close', () => events.vanish())
  }

  /** It did something, or need not do anything. */
  touch() {
    this.seen = performance.now()
  }

  get #deaf() {
    return this.#gone || this.#socket.destroyed
  }

  /** Whether it can take output; one that is gone takes any. */
  get thirsty() {
    return this.#gone || !this.#socket.writableNeedDrain
  }

  get paused() {
    return this.#socket.isPaused()
  }

  /** Read from it, unless there is no room. */
  read(full) {
    if (full) this.#socket.pause()
    else if (this.paused) this.#socket.resume()
  }

  send(bytes) {
    if (!this.#deaf) this.#socket.write(bytes)
  }

  /** Send *bytes*, unless it has left more than *backlog* bytes unread: then it is dropped. */
  notify(bytes, backlog) {
    if (this.#socket.writableLength > backlog) this.#socket.destroy()
    else this.send(bytes)
  }

  /** Count *size* bytes of output; whether so many were thrown away that their statement should end. True once. */
  loses(size) {
    if (!this.#deaf || (this.#lost += size) <= LOST) return false
    this.#lost = -Infinity
    return true
  }

  /** The descriptor, if the backend may have it now, until `returned`; else -1. */
  lend() {
    const descriptor = this.#socket._handle?.fd ?? -1
    this.#lent = descriptor >= 0 && !this.#gone && this.#socket.writableLength === 0
    return this.#lent ? descriptor : -1
  }

  get lent() {
    return this.#lent
  }

  /** The backend has given the descriptor back. */
  returned() {
    this.#lent = false
    this.#closing?.()
  }

  /** Say *lastWords*; it has *grace* milliseconds to read them. */
  leave(lastWords, grace) {
    if (!this.#deaf) this.#socket.end(lastWords)
    this.#socket.resume() // what it still sends is thrown away, so that it can read our last words
    setTimeout(() => this.#socket.destroy(), grace).unref()
  }

  /** Nothing more is sent. */
  end() {
    this.#socket.end()
  }

  /** As `end`; what is sent all the same is thrown away. */
  forget() {
    this.#gone = true
    this.#socket.end()
  }

  destroy() {
    this.#socket.destroy()
  }
}
