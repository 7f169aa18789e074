// LISTEN and NOTIFY for many connections in one session: registration of listeners and delivery.
import { HEADER, query } from './messages.mjs'

const BACKLOG = 4 * 1024 * 1024 // bytes that a listener may leave unread before it is dropped

/** The channels of all sessions. A session is anything with `notify(bytes)`. */
export class Channels {
  #of = new Map() // session → names

  /** Record LISTEN and UNLISTEN statements of *session*: ['listen' | 'unlisten', name, or null for all]. */
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

  /** Remove all registrations of *session*. */
  drop(session) {
    this.#of.delete(session)
  }

  /** Whether *session* listens to any channel. */
  has(session) {
    return this.#of.has(session)
  }

  /** SQL that returns the channels of the shared session: rows of one column. */
  static ACTUAL = query('SELECT pg_catalog.pg_listening_channels()')

  /**
   * Compare the registrations with *actual*, the channels of the shared session after *session*'s turn.
   *
   * Returns SQL that corrects the shared session ('' for nothing): an UNLISTEN of one connection affected all. A
   * channel that only *session* registered and that is not in *actual* was rolled back, and is removed.
   */
  repair(session, actual) {
    const listening = new Set(actual)
    const wanted = new Set()
    for (const [other, names] of this.#of) if (other !== session) for (const name of names) wanted.add(name)
    for (const name of this.#of.get(session) ?? []) {
      if (listening.has(name)) wanted.add(name)
      else if (!wanted.has(name)) this.note(session, [['unlisten', name]])
    }
    const missing = [...wanted].filter((name) => !listening.has(name)).map((name) => `LISTEN ${identifier(name)};`)
    const extra = [...listening].filter((name) => !wanted.has(name)).map((name) => `UNLISTEN ${identifier(name)};`)
    return [...missing, ...extra].join(' ')
  }

  /** Send the NotificationResponse *bytes* of connection *id* to its listeners; return it if *owner* is one of them. */
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

