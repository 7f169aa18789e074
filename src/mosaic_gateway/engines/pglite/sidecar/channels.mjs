// LISTEN and NOTIFY for many connections in one session: who listens to what, and who is told.
import { HEADER, query } from './messages.mjs'

const BACKLOG = 4 * 1024 * 1024 // bytes that a listener may leave unread before it is dropped

/** The channels of all sessions. A session is anything with `notify(bytes)`. */
export class Channels {
  #of = new Map() // session → names

  /** Note what statements of *session* asked for: ['listen' | 'unlisten', name or null]. */
  note(session, changes) {
    const names = this.#of.get(session) ?? new Set()
    for (const [verb, name] of changes) {
      if (verb === 'listen') names.add(name)
      else if (name === null) names.clear()
      else names.delete(name)
    }
    if (names.size > 0) this.#of.set(session, names)
    else this.#of.delete(session)
  }

  /** Forget *session*. */
  drop(session) {
    this.#of.delete(session)
  }

  /** Whether *session* listens to anything. */
  has(session) {
    return this.#of.has(session)
  }

  /** SQL that tells what the shared session listens to: rows of one column. */
  static ACTUAL = query('SELECT pg_catalog.pg_listening_channels()')

  /**
   * Compare with *actual*, what the shared session listens to after *session*'s turn.
   *
   * Returns SQL that mends it ('' for nothing): one connection's UNLISTEN was everybody's. What only *session* wanted
   * and is not there was rolled back.
   */
  mend(session, actual) {
    const there = new Set(actual)
    const wanted = new Set()
    for (const [other, names] of this.#of) if (other !== session) for (const name of names) wanted.add(name)
    for (const name of this.#of.get(session) ?? []) {
      if (there.has(name)) wanted.add(name)
      else if (!wanted.has(name)) this.note(session, [['unlisten', name]])
    }
    const missing = [...wanted].filter((name) => !there.has(name)).map((name) => `LISTEN ${identifier(name)};`)
    const extra = [...there].filter((name) => !wanted.has(name)).map((name) => `UNLISTEN ${identifier(name)};`)
    return [...missing, ...extra].join(' ')
  }

  /** Hand the NotificationResponse *bytes*, sent by connection *id*, to its listeners; return it if *owner* is one. */
  deliver(bytes, id, owner) {
    bytes.writeInt32BE(id, HEADER)
    const name = bytes.toString('latin1', HEADER + 4, bytes.indexOf(0, HEADER + 4))
    let own = null
    for (const [session, names] of this.#of) {
      if (!names.has(name)) continue
      if (session === owner) own = bytes
      else session.notify(bytes, BACKLOG)
    }
    return own
  }
}

function identifier(name) {
  return `"${Buffer.from(name, 'latin1').toString().replaceAll('"', '""')}"`
}

