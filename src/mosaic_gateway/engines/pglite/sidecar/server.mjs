// The listening socket, its connections, and the limit on their number.
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { chmodSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { Channels } from './channels.mjs'
import { Lease } from './lease.mjs'
import { Session } from './session.mjs'

const TOO_MANY = 'sorry, too many clients already'
const SPARE = 16 // connections beyond limit and queue: for cancel requests and error messages
const START_LIMIT = 30_000 // milliseconds for the start-up packet
const GRACE = 4_000 // milliseconds from an interrupt to the end of the process, and for a client to read its last message
const TICK = 1_000 // milliseconds
const STOP_GRACE = 6_000 // milliseconds that a running statement may continue after SIGTERM

/** Serves *backend* on a socket. *deadline* is called when a statement can only be ended by ending the process. */
export class Server {
  #options
  #deadline
  #listener
  #all = new Set() // every connection
  #queue = [] // [session, timer]: sessions that wait for admission
  #ids = 0
  #ticker
  lease = new Lease()
  channels = new Channels()
  sessions = new Set() // admitted sessions
  grace = GRACE

  constructor({ backend, greeting, options, deadline }) {
    this.backend = backend
    this.greeting = greeting
    this.#options = options
    this.#deadline = deadline
  }

  /** Listen. */
  async start() {
    rmSync(this.#options.socket, { force: true })
    this.#listener = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket))
    await new Promise((resolve, reject) => this.#listener.once('error', reject).listen(this.#options.socket, resolve))
    chmodSync(this.#options.socket, 0o600)
    this.#ticker = setInterval(() => this.#tick(), TICK)
  }

  #accept(socket) {
    const session = new Session(this, socket, ++this.#ids, randomBytes(4))
    this.#all.add(session)
    const { maxConnections, queue } = this.#options
    if (this.#all.size > maxConnections + queue + SPARE) return session.expel('53300', TOO_MANY)
    setTimeout(() => session.started || session.expel('08P01', 'no start-up packet was received'), START_LIMIT).unref()
  }

  /** Admit *session*, now or when the number of connections allows it. */
  admit(session) {
    const { maxConnections, queue, queueLimit } = this.#options
    if (this.sessions.size < maxConnections) {
      this.sessions.add(session)
      session.admitted()
    } else if (this.#queue.length < queue) {
      const timer = setTimeout(() => session.expel('53300', TOO_MANY), queueLimit)
      this.#queue.push([session, timer])
    } else {
      session.expel('53300', TOO_MANY)
    }
  }

  /** Remove *session*, which has ended, and admit the next one. */
  forget(session) {
    this.#all.delete(session)
    this.#queue = this.#queue.filter(([waiting, timer]) => waiting !== session || clearTimeout(timer))
    if (!this.sessions.delete(session) || this.#queue.length === 0) return
    const [next, timer] = this.#queue.shift()
    clearTimeout(timer)
    this.admit(next)
  }

  /** Cancel the statement of connection *id* if *secret* is its secret. */
  cancel(id, secret) {
    for (const session of this.sessions) {
      if (session.id === id && session.secret.length === secret.length && timingSafeEqual(session.secret, secret)) {
        session.cancel()
      }
    }
  }

  /** End the process because of *session*'s deadline of *limit* milliseconds. */
  kill(session, limit) {
    session.expel('57014', 'canceling statement due to statement timeout')
    this.#deadline(session.id, limit / 1000)
  }

  /** Enforce the time limits of a session that blocks others. */
  #tick() {
    const { owner, wanted } = this.lease
    const limit = this.#options.stallLimit
    const now = performance.now()
    if (wanted && owner.abandoned(now) > GRACE) owner.cancel()
    if (wanted && limit > 0 && owner.stalled(now) > limit) {
      owner.expel('25P03', 'terminating connection: it was idle while other connections waited')
    }
  }

  /** Close the listening socket, disconnect all clients, and return when running statements have ended. */
  async stop() {
    clearInterval(this.#ticker)
    this.#listener.close()
    rmSync(this.#options.socket, { force: true })
    for (const session of this.#all) session.dismiss('57P01', 'terminating connection due to administrator command')
    const hurry = setTimeout(() => this.lease.owner?.cancel(), STOP_GRACE)
    while (this.#all.size > 0) await new Promise((resolve) => setTimeout(resolve, 5))
    clearTimeout(hurry)
  }
}
