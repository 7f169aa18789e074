// The interface of sessions to the backend: bytes in, bytes out, and the backend's state.
import { INSIDE, RUNNING, TOP } from './bridge.mjs'
import { messages, readFields, readRow } from './messages.mjs'

export { INSIDE, RUNNING, TOP }

/**
 * The front end's side of the bridge.
 *
 * `sink` receives the output of the session whose turn it is. It has `writable`, whether it can accept output;
 * `reply(piece, raw)`, where the first *raw* bytes of *piece* end a message that the scanner has already counted; and
 * `progress(state)`, called after each transfer with the backend's state once all its output was read.
 */
export class Backend {
  #front
  #interrupter
  #queue = []
  sink = null

  constructor(front, interrupter) {
    this.#front = front
    this.#interrupter = interrupter
    /** Key of the settings now in force in the shared session (settings.mjs). */
    this.settings = ''
  }

  /** Process the bridge's bell until the process exits. */
  async listen() {
    await this.#front.listen(() => this.poll())
  }

  /** The backend's state; it counts as waiting only when all input was answered and all output was read. */
  get state() {
    const state = this.#queue.length > 0 ? RUNNING : this.#front.waiting()
    return this.#front.drained ? state : RUNNING // in this order: the backend sets its state after its last answer
  }

  /** Whether some of the input still waits for space in the ring. */
  get full() {
    return this.#queue.length > 0
  }

  /** Send *bytes* to the backend. */
  feed(bytes) {
    if (this.#queue.length > 0) return void this.#queue.push(bytes)
    const written = this.#front.write(bytes)
    if (written < bytes.length) this.#queue.push(bytes.subarray(written))
  }

  /** Begin a group of messages; return its number, for `interrupt`. */
  group() {
    return this.#front.nextGroup()
  }

  /** Lend the backend the socket *descriptor* for short answers, until it waits at the top (bridge.mjs). */
  lend(descriptor, quiet) {
    this.#front.lend(descriptor, quiet)
  }

  /** Request a call of `progress` at the end of the group, immediately if it has already ended. */
  notifyEnd() {
    this.#front.notifyEnd()
    if (this.state !== RUNNING) this.poll()
  }

  /** Reclaim the lent socket; return [type, status] of the last message written to it, or null. */
  reclaim() {
    return this.#front.reclaim()
  }

  /** Make the statement of *group* fail with 57014 if it is still running. False: not supported by this Node.js. */
  interrupt(group) {
    return this.#interrupter.interrupt(group)
  }

  /** Transfer pending input and output. */
  poll() {
    for (let piece; this.sink?.writable && (piece = this.#front.read()) !== null; ) {
      this.sink.reply(piece, this.#front.takeRaw())
    }
    while (this.#queue.length > 0) {
      const written = this.#front.write(this.#queue[0])
      if (written < this.#queue[0].length) {
        this.#queue[0] = this.#queue[0].subarray(written)
        break
      }
      this.#queue.shift()
    }
    this.sink?.progress(this.state)
  }

  /** Run *bytes*, internal messages up to one or more ReadyForQuery; *done* gets {rows, error}. */
  ask(bytes, done) {
    const sink = this.sink
    this.sink = new Answer((answer) => {
      this.sink = sink
      done(answer)
    })
    this.feed(bytes)
  }

  /** Stop the backend; nothing more is served. */
  stop() {
    this.#front.stop()
  }
}

/** A sink that collects the answer to an internal query. */
class Answer {
  #pieces = []
  #done
  writable = true

  constructor(done) {
    this.#done = done
  }

  reply(piece) {
    this.#pieces.push(piece)
  }

  progress(state) {
    if (state !== TOP) return
    const answer = { rows: [], error: null }
    for (const [type, bytes] of messages(Buffer.concat(this.#pieces))) {
      if (type === 'D') answer.rows.push(readRow(bytes))
      else if (type === 'E') answer.error ??= readFields(bytes)
    }
    this.#done(answer)
  }
}
