// Messages of PostgreSQL's frontend/backend protocol 3.0: encoding, splitting and decoding. Pure.
// Format: https://www.postgresql.org/docs/18/protocol-message-formats.html

/** Request codes, in place of the protocol version in a client's first packet. */
export const SSL_REQUEST = 80877103
export const GSSENC_REQUEST = 80877104
export const CANCEL_REQUEST = 80877102

/** The only supported protocol version. */
export const PROTOCOL = 196608 // 3.0

export const HEADER = 5 // bytes: type, length

/** One message of *type* with the concatenated *parts* (strings end with a zero byte) as its body. */
export function message(type, ...parts) {
  const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? cstring(part) : part)))
  const header = Buffer.alloc(HEADER)
  header.write(type, 'latin1')
  header.writeInt32BE(4 + body.length, 1)
  return Buffer.concat([header, body])
}

function cstring(text) {
  return Buffer.from(text + '\0')
}

export const query = (sql) => message('Q', sql)
export const sync = () => message('S')
export const copyFail = (reason) => message('f', reason)
export const closeStatement = (name) => message('C', 'S' + name)
export const readyForQuery = (status) => message('Z', Buffer.from(status))

/** The first packet of a connection. */
export function startupPacket(parameters) {
  const body = Buffer.from(Object.entries(parameters).flat().join('\0') + '\0\0')
  return Buffer.concat([int32(8 + body.length), int32(PROTOCOL), body])
}

/** Parse, Bind, Execute, Close and Sync of *sql* as *name*; unlike Query it leaves the unnamed statement unchanged. */
export function aside(sql, name) {
  return Buffer.concat([
    ...once(sql, name),
    message('C', 'P' + name), // in a transaction it would stay open and conflict with the next one
    closeStatement(name),
    sync(),
  ])
}

/** ROLLBACK and Sync: a Sync alone would commit an implicit transaction; after an error ROLLBACK is skipped. */
export function rollback() {
  return Buffer.concat([...once('ROLLBACK', ''), sync()])
}

function once(sql, name) {
  return [
    message('P', name, sql, int16(0)),
    message('B', name, name, int16(0), int16(0), int16(0)),
    message('E', name, int32(0)),
  ]
}

/** BackendKeyData: the key with which a client can cancel a query of connection *pid*. */
export function backendKeyData(pid, secret) {
  return message('K', int32(pid), secret)
}

/** NegotiateProtocolVersion: 3.0, with none of the protocol *options*. */
export function negotiate(options) {
  return message('v', int32(PROTOCOL), int32(options.length), ...options)
}

/** ErrorResponse. *severity* is ERROR or FATAL. */
export function errorResponse({ severity = 'FATAL', code, message: text, hint }) {
  const fields = { S: severity, V: severity, C: code, M: text, ...(hint && { H: hint }) }
  return fieldsResponse('E', Object.entries(fields))
}

/** ErrorResponse or NoticeResponse (*type* E or N) of [letter, text] pairs. */
export function fieldsResponse(type, fields) {
  return message(type, ...fields.map(([letter, text]) => letter + text), Buffer.alloc(1))
}

/** The [letter, text] pairs of an ErrorResponse or NoticeResponse. */
export function readFields(bytes) {
  return bytes
    .toString('utf8', HEADER, bytes.length - 2)
    .split('\0')
    .map((field) => [field[0], field.slice(1)])
}

/** Each [type, bytes] of *buffer*, which contains complete messages. */
export function* messages(buffer) {
  for (let start = 0; start < buffer.length; ) {
    const end = start + 1 + buffer.readUInt32BE(start + 1)
    yield [String.fromCharCode(buffer[start]), buffer.subarray(start, end)]
    start = end
  }
}

/** The columns of a DataRow in text format, null for NULL. */
export function readRow(bytes) {
  const columns = []
  let at = HEADER + 2
  for (let left = bytes.readUInt16BE(HEADER); left > 0; left--) {
    const length = bytes.readInt32BE(at)
    at += 4
    columns.push(length < 0 ? null : bytes.toString('utf8', at, at + length))
    at += Math.max(length, 0)
  }
  return columns
}

/** Decode a start-up packet: `version`, `protocolOptions` (`_pq_.`), and all other `parameters` by name. */
export function readStartup(packet) {
  const words = packet.toString('utf8', 8).split('\0')
  const parameters = new Map()
  const protocolOptions = []
  for (let i = 0; i + 1 < words.length && words[i] !== ''; i += 2) {
    if (words[i].startsWith('_pq_.')) protocolOptions.push(words[i])
    else parameters.set(words[i], words[i + 1])
  }
  return { version: packet.readUInt32BE(4), parameters, protocolOptions }
}

/** The settings in a start-up packet's `options`: `-c name=value`, `-cname=value`, `--name=value`; null if malformed. */
export function readOptionSettings(options) {
  const words = (options.match(/(?:\\[^]|[^\\\s])+/g) ?? []).map((word) => word.replace(/\\([^])/g, '$1'))
  const settings = new Map()
  while (words.length > 0) {
    const word = words.shift()
    const setting = word === '-c' ? words.shift() : /^(?:-c|--)(.+)$/s.exec(word)?.[1]
    const cut = setting?.indexOf('=') ?? -1
    if (cut < 1) return null
    settings.set(setting.slice(0, cut).replaceAll('-', '_'), setting.slice(cut + 1))
  }
  return settings
}

function int16(number) {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(number)
  return bytes
}

function int32(number) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(number)
  return bytes
}
