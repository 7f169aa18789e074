// Names of prepared statements of many connections in one session: each is prefixed with its connection's id. Pure.
import { createHash } from 'node:crypto'
import { HEADER } from './messages.mjs'

const LIMIT = 63 // bytes, NAMEDATALEN - 1: PostgreSQL truncates longer names

/** The name in the shared session of statement *name* (latin1) of connection *id*. */
export function alias(id, name) {
  const full = `c${id}_${name}`
  return full.length <= LIMIT ? full : `c${id}_${createHash('sha1').update(name, 'latin1').digest('hex')}`
}

/** *text* of an error for the client of connection *id*, with its own statement names. */
export function withoutAlias(id, text) {
  return text.replaceAll(`"c${id}_`, '"')
}

/** The range of the statement's name in a Parse, Bind, Describe or Close message; null for portals. */
export function nameRange(type, bytes) {
  if (type === 'P') return range(bytes, HEADER)
  if (type === 'B') return range(bytes, bytes.indexOf(0, HEADER) + 1)
  return bytes[HEADER] === 83 /* S */ ? range(bytes, HEADER + 1) : null
}

function range(bytes, start) {
  const end = bytes.indexOf(0, start)
  return start < HEADER || end < 0 ? null : [start, end]
}

/** *bytes*, a complete message, with the part from *start* to *end* replaced by *text* (latin1). */
export function replaced(bytes, start, end, text) {
  const result = Buffer.concat([bytes.subarray(0, start), Buffer.from(text, 'latin1'), bytes.subarray(end)])
  result.writeInt32BE(result.length - 1, 1)
  return result
}
