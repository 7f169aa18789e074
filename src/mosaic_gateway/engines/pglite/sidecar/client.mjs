// The socket of a connection: reading, writing, its last activity, and closing.
//
// While a group runs, the backend may have the socket's descriptor and write to it directly. If it were closed then,
// its number could be reused for another connection; so a lent socket is closed after it is returned.

const LOST = 262_144 // bytes of output for a disconnected client after which its statement is interrupted

/** *events* has `data(chunk)`, `drain()`, `end()` and `vanish()`, which may be called more than once. */
export class Client {
  #socket
  #lent = false // the backend has the socket's descriptor
  #closing = null // closes the socket after its return
  #gone = false // nothing more is sent
  #lost = 0 // bytes of discarded output
  /** Time of the client's last activity. */
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

  /** Record activity, or that no activity is expected. */
  touch() {
    this.seen = performance.now()
  }

  get #closed() {
    return this.#gone || this.#socket.destroyed
  }

  /** Whether it can accept output; for a disconnected client, true. */
  get writable() {
    return this.#gone || !this.#socket.writableNeedDrain
  }

  get paused() {
    return this.#socket.isPaused()
  }

  /** Read from the socket, unless *full*. */
  read(full) {
    if (full) this.#socket.pause()
    else if (this.paused) this.#socket.resume()
  }

  send(bytes) {
    if (!this.#closed) this.#socket.write(bytes)
  }

  /** Send *bytes*; a client with more than *backlog* unread bytes is disconnected instead. */
  notify(bytes, backlog) {
    if (this.#socket.writableLength > backlog) this.#socket.destroy()
    else this.send(bytes)
  }

  /** Count *size* bytes of output; true, once, when so many were discarded that the statement should be ended. */
  loses(size) {
    if (!this.#closed || (this.#lost += size) <= LOST) return false
    this.#lost = -Infinity
    return true
  }

  /** Return the descriptor if it may be lent to the backend now, until `returned`; else -1. */
  lend() {
    const descriptor = this.#socket._handle?.fd ?? -1
    this.#lent = descriptor >= 0 && !this.#gone && this.#socket.writableLength === 0
    return this.#lent ? descriptor : -1
  }

  get lent() {
    return this.#lent
  }

  /** The backend has returned the descriptor. */
  returned() {
    this.#lent = false
    this.#closing?.()
  }

  /** Send *message* and close the connection; the client has *grace* milliseconds to read the message. */
  leave(message, grace) {
    if (!this.#closed) this.#socket.end(message)
    this.#socket.resume() // further input is discarded, so that the client can read the message
    setTimeout(() => this.#socket.destroy(), grace).unref()
  }

  /** Close the sending side. */
  end() {
    this.#socket.end()
  }

  /** As `end`; further output is discarded. */
  forget() {
    this.#gone = true
    this.#socket.end()
  }

  destroy() {
    this.#socket.destroy()
  }
}
