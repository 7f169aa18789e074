// Connection start-up: settings of the start-up packet, and the answer to it. Pure.
import { ProtocolError } from './inbound.mjs'
import { backendKeyData, HEADER, message, messages, negotiate, PROTOCOL, readOptionSettings, readyForQuery } from './messages.mjs'
import { literal } from './settings.mjs'

const NO_SETTINGS = new Set(['user', 'database', 'options', 'replication'])

/** The settings, a Map, in a start-up packet (messages.readStartup). Raises ProtocolError. */
export function startSettings({ version, parameters }) {
  if (version >>> 16 !== PROTOCOL >>> 16) {
    throw new ProtocolError('0A000', `unsupported frontend protocol ${version >>> 16}.${version & 0xffff}: server supports 3.0`)
  }
  if (/^(?:1|on|true|yes|database)$/i.test(parameters.get('replication') ?? '')) {
    throw new ProtocolError('0A000', 'this server does not support replication')
  }
  const settings = readOptionSettings(parameters.get('options') ?? '')
  if (settings === null) throw new ProtocolError('42601', `invalid command-line options: ${parameters.get('options')}`)
  for (const [name, value] of parameters) if (!NO_SETTINGS.has(name)) settings.set(name, value)
  return settings
}

/** SQL for the current values of the parameters in *greeting*, to report at start-up: rows of name and value. */
export function askParameters(greeting) {
  const names = [...readParameters(greeting).keys()].map(literal)
  return `SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.unnest(ARRAY[${names}]) AS name`
}

/** The answer to a start-up packet: the backend's own *greeting*, with *changed* parameters and the connection's key. */
export function greet(greeting, { version, protocolOptions }, { id, secret }, changed) {
  const parameters = [...new Map([...readParameters(greeting), ...changed])]
  const negotiation = version > PROTOCOL || protocolOptions.length > 0 ? [negotiate(protocolOptions)] : []
  const authentication = [...messages(greeting)].filter(([type]) => type === 'R').map(([, bytes]) => bytes)
  const statuses = parameters.map(([name, value]) => message('S', name, value))
  return Buffer.concat([...negotiation, ...authentication, ...statuses, backendKeyData(id, secret), readyForQuery('I')])
}

function readParameters(greeting) {
  const statuses = [...messages(greeting)].filter(([type]) => type === 'S')
  return new Map(statuses.map(([, bytes]) => bytes.toString('utf8', HEADER).split('\0').slice(0, 2)))
}
