// The backend as sessions see it: something that takes bytes, answers with bytes, and waits in between.
import { INSIDE, RUNNING, TOP } from './bridge.mjs'
import { messages, readFields, readRow } from './messages.mjs'

export { INSIDE, RUNNING, TOP }

/**
 * The front's side of the bridge.
 *
 * `sink` is whose turn it is: `thirsty`, whether it can take output; `reply(piece, raw)`, the first *raw* bytes
 * of which end a message that has been followed already; `progress(state)`, called whenever
 * something moved, with what the backend is doing once all its output has been taken.
 */
export class Backend {
  #front
  #interrupter
  #queue = []
  sink = null

  constructor(front, interrupter) {
    this.#front = front
    this.#interrupter = interrupter
    /** Key of the settings that the session has now (settings.mjs). */
    this.settings = ''
  }

  /** Listen to the bridge until `closed`. */
  async listen() {
    await this.#front.listen(() => this.heard())
  }

  /** What it is doing; it waits only once all that it has read was answered and the answers were taken. */
  get state() {
    const state = this.#queue.length > 0 ? RUNNING : this.#front.waiting()
    return this.#front.drained ? state : RUNNING // in this order: it says that it waits after its last answer
  }

  /** Whether it has not yet room for all that was fed. */
  get full() {
    return this.#queue.length > 0
  }

  /** Give it *bytes*. */
  feed(bytes) {
    if (this.#queue.length > 0) return void this.#queue.push(bytes)
    const written = this.#front.write(bytes)
    if (written < bytes.length) this.#queue.push(bytes.subarray(written))
  }

  /** Begin a group of messages; returns its number, for `interrupt`. */
  group() {
    return this.#front.nextGroup()
  }

  /** Lend it the socket *descriptor* for short answers, until it waits at the top (bridge.mjs). */
  lend(descriptor, quiet) {
    this.#front.lend(descriptor, quiet)
  }

  /** Something waits for the end of the group: the sink must be told of it, at once if it has come already. */
  wakeMe() {
    this.#front.wakeMe()
    if (this.state !== RUNNING) this.heard()
  }

  /** Take the socket back; [type, status] of the last message that went there, or null. */
  takeBack() {
    return this.#front.takeBack()
  }

  /** Make the statement of *group* fail with 57014 if it still runs. False: not possible here. */
  interrupt(group) {
    return this.#interrupter.interrupt(group)
  }

  /** Move what can be moved. */
  heard() {
    for (let piece; this.sink?.thirsty && (piece = this.#front.read()) !== null; ) {
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

  /** Run *bytes* (to one or more ReadyForQuery) for ourselves; *done* gets {rows, error}. */
  ask(bytes, done) {
    const sink = this.sink
    this.sink = new Answer((answer) => {
      this.sink = sink
      done(answer)
    })
    this.feed(bytes)
  }

  /** End it: *then* nothing more is served. */
  stop() {
    this.#front.stop()
  }
}

/** Collects an answer that is meant for ourselves. */
class Answer {
  #pieces = []
  #done
  thirsty = true

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
