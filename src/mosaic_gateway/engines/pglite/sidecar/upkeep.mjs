// Internal queries of a session in its turn: restore its settings, read changed settings, correct channels, clean up.
// Each function calls *then* once the backend has answered.
import { Channels } from './channels.mjs'
import { aside, closeStatement, query, sync } from './messages.mjs'
import * as settings from './settings.mjs'

/** Apply the settings *wanted*. *then* gets the fields of the error, or null. */
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

/** Read the time limit within a transaction; the other settings are read after its end. */
export function readTimeout(backend, shared, then) {
  shared.stale = false
  backend.ask(aside(settings.SHOW_TIMEOUT, 'mosaic_gateway'), ({ rows }) => {
    shared.timeout = settings.milliseconds(rows[0]?.[0])
    then()
  })
}

/** Make the shared session listen to the channels of all connections, including *session*'s changes. */
export function repairChannels({ backend, channels }, session, then) {
  backend.ask(Channels.ACTUAL, ({ rows }) => {
    const actual = rows.map(([name]) => Buffer.from(name).toString('latin1'))
    const repair = channels.repair(session, actual)
    if (repair === '') then()
    else backend.ask(query(repair), then)
  })
}

/** Remove *session*'s state from the shared session; all state if no other session is open. */
export function clearUp(server, session, shared, then) {
  const { backend, channels, sessions } = server
  channels.drop(session)
  if (![...sessions].some((other) => other.isOpen)) {
    backend.ask(query(settings.RESET_USER), () => backend.ask(query('DISCARD ALL'), then))
    backend.settings = ''
    return
  }
  const closing = [...shared.prepared].map(closeStatement)
  backend.ask(Buffer.concat([...closing, sync()]), () => repairChannels(server, session, then))
}
