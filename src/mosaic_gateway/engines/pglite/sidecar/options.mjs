// Parses the sidecar's command line. Pure.
import { parseArgs } from 'node:util'

const DEFAULTS = { 'max-connections': 20, queue: 64, 'queue-limit': 10, 'stall-limit': 60 }

/** Options of main.mjs. Throws an Error with the code USAGE. */
export function readOptions(argv) {
  try {
    return read(argv)
  } catch (error) {
    throw Object.assign(error, { code: 'USAGE' })
  }
}

function read(argv) {
  const { values } = parseArgs({
    args: argv,
    options: {
      modules: { type: 'string' },
      data: { type: 'string' },
      socket: { type: 'string' },
      'max-connections': { type: 'string' },
      queue: { type: 'string' },
      'queue-limit': { type: 'string' },
      'stall-limit': { type: 'string' },
      'lock-fd': { type: 'string' },
      'no-fsync': { type: 'boolean', default: false },
    },
  })
  for (const name of ['modules', 'data', 'socket']) if (!values[name]) throw new Error(`--${name} is missing`)
  return Object.freeze({
    modules: values.modules,
    data: values.data.replace(/(?<=.)\/+$/, ''),
    socket: values.socket,
    maxConnections: count(values, 'max-connections', 1),
    queue: count(values, 'queue', 0),
    queueLimit: count(values, 'queue-limit', 0) * 1000, // milliseconds
    stallLimit: count(values, 'stall-limit', 0) * 1000, // milliseconds; 0: no limit
    fsync: !values['no-fsync'],
  })
}

function count(values, name, least) {
  const text = values[name]
  if (text === undefined) return DEFAULTS[name]
  const number = Number(text)
  if (!/^\d+(\.\d+)?$/.test(text) || number < least) throw new Error(`--${name} must be a number of at least ${least}, not ${text}`)
  return number
}
