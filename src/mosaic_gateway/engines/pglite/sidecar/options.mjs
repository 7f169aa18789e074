// The command line of the sidecar: what it may hold, and what it means. Pure.
import { parseArgs } from 'node:util'

const DEFAULTS = { 'max-connections': 20, queue: 64, 'queue-limit': 10, 'stall-limit': 60 }

/** Options of main.mjs. Throws an Error with the code USAGE that says what is wrong. */
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
    stallLimit: count(values, 'stall-limit', 0) * 1000, // milliseconds; 0: for ever
    fsync: !values['no-fsync'],
  })
}

function count(values, name, least) {
  const given = values[name]
  if (given === undefined) return DEFAULTS[name]
  const number = Number(given)
  if (!/^\d+(\.\d+)?$/.test(given) || number < least) throw new Error(`--${name} must be a number from ${least} up, not ${given}`)
  return number
}
