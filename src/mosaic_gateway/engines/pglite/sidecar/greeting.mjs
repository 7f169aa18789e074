// The beginning of a connection: what its first packet asks for, and what it is told. Pure.
import { backendKeyData, messages, negotiate, PROTOCOL, readOptionSettings, readyForQuery } from './messages.mjs'
import { ProtocolError } from './inbound.mjs'


const NO_SETTINGS = new Set(['user', 'database', 'options', 'replication'])

/** The settings, a Map, that a start-up packet (messages.readStartup) asks for. Raises ProtocolError. */
export function startSettings({ version, parameters }) {
  if (version >>> 16 !== PROTOCOL >>> 16) {
    throw new ProtocolError('0A000', `unsupported frontend protocol ${version >>> 16}.${version & 0xffff}: server supports 3.0`)
  }
  if (/^(?:1|on|true|yes|database)$/i.test(parameters.get('replication') ?? '')) {
    throw new ProtocolError('0A000', 'this server has no replication')
  }
  const settings = readOptionSettings(parameters.get('options') ?? '')
  if (settings === null) throw new ProtocolError('42601', `invalid command-line options: ${parameters.get('options')}`)
  for (const [name, value] of parameters) if (!NO_SETTINGS.has(name)) settings.set(name, value)
  return settings
}

/** The answer to a start-up packet: the backend's own *greeting*, with *changed* parameters and *session*'s key. */
export function greet(greeting, { version, protocolOptions }, { id, secret }, changed) {
  const parameters = new Map()
  const others = []
  for (const [type, bytes] of messages(greeting)) {
    if (type === 'S') parameters.set(parameterName(bytes), bytes)
    else if (type === 'R') others.push(bytes)
  }
  for (const bytes of changed) parameters.set(parameterName(bytes), bytes)
  const old = version > PROTOCOL || protocolOptions.length > 0 ? [negotiate(protocolOptions)] : []
  return Buffer.concat([...old, ...others, ...parameters.values(), backendKeyData(id, secret), readyForQuery('I')])
}

function parameterName(bytes) {
  return bytes.toString('latin1', 5, bytes.indexOf(0, 5))
}

