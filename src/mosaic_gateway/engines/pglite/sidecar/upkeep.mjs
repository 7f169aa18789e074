// What a session asks the backend for its own sake, in its turn: to put its settings in place, to read back what the
// turn has changed, to clear up what it leaves. Each calls *then* once the backend has answered.
import { Channels } from './channels.mjs'
import { aside, closeStatement, query, sync } from './messages.mjs'
import * as settings from './settings.mjs'

/** Put *wanted* in place. *then* gets the fields of the error, or null. */
export function place(backend, wanted, then) {
  backend.ask(query(settings.restore(wanted)), ({ error }) => {
    backend.settings = error === null ? settings.key(wanted) : null
    then(error)
  })
}

/** Read the settings that the turn may have changed. */
export function readBack(backend, shared, then) {
  shared.touched = false
  backend.ask(query(settings.read(shared.custom)), ({ rows }) => {
    backend.settings = settings.key(new Map(rows))
    shared.settings = new Map([...shared.initial, ...rows])
    then()
  })
}

/** In a transaction only the time limit is asked for again; the rest is read when it is over. */
export function readTimeout(backend, shared, then) {
  shared.stale = false
  backend.ask(aside(settings.SHOW_TIMEOUT, 'mosaic_gateway'), ({ rows }) => {
    shared.timeout = settings.milliseconds(rows[0]?.[0])
    then()
  })
}

/** Have the backend listen to what the connections want to hear, *session*'s changes included. */
export function mendChannels({ backend, channels }, session, then) {
  backend.ask(Channels.ACTUAL, ({ rows }) => {
    const actual = rows.map(([name]) => Buffer.from(name).toString('latin1'))
    const mending = channels.mend(session, actual)
    if (mending === '') then()
    else backend.ask(query(mending), then)
  })
}

/** Clear up what *session* leaves in the shared session: all there is, when nobody else is open. */
export function clearUp(server, session, shared, then) {
  const { backend, channels, sessions } = server
  channels.drop(session)
  if (![...sessions].some((other) => other.isOpen)) {
    backend.ask(query(settings.RESET_USER), () => backend.ask(query('DISCARD ALL'), then))
    backend.settings = ''
    return
  }
  const closing = [...shared.prepared].map(closeStatement)
  backend.ask(Buffer.concat([...closing, sync()]), () => mendChannels(server, session, then))
}
