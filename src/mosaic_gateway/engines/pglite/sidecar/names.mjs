// Prepared statements of many connections in one session: each gets a name that shows whose it is. Pure.
import { createHash } from 'node:crypto'
import { HEADER } from './messages.mjs'

const LIMIT = 63 // bytes, NAMEDATALEN - 1: PostgreSQL cuts off what is longer

/** The shared session's name for statement *name* (latin1) of connection *id*. */
export function alias(id, name) {
  const full = `c${id}_${name}`
  return full.length <= LIMIT ? full : `c${id}_${createHash('sha1').update(name, 'latin1').digest('hex')}`
}

/** *text* of an error as the client of connection *id* must see it. */
export function withoutAlias(id, text) {
  return text.replaceAll(`"c${id}_`, '"')
}

/** Where the statement's name stands in a Parse, Bind, Describe or Close message; null for portals and what has none. */
export function nameRange(type, bytes) {
  if (type === 'P') return range(bytes, HEADER)
  if (type === 'B') return range(bytes, bytes.indexOf(0, HEADER) + 1)
  return bytes[HEADER] === 83 /* S */ ? range(bytes, HEADER + 1) : null
}

function range(bytes, start) {
  const end = bytes.indexOf(0, start)
  return start < HEADER || end < 0 ? null : [start, end]
}

/** *bytes*, a whole message, with the part from *start* to *end* replaced by *text* (latin1). */
export function replaced(bytes, start, end, text) {
  const result = Buffer.concat([bytes.subarray(0, start), Buffer.from(text, 'latin1'), bytes.subarray(end)])
  result.writeInt32BE(result.length - 1, 1)
  return result
}
