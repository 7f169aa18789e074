// State of one connection in the shared session: prepared statements, settings, channels.
//
// Messages are processed here when they are sent to the backend, not on arrival: only then is their order final.
import { fieldsResponse, HEADER, readFields } from './messages.mjs'
import { alias, nameRange, replaced, withoutAlias } from './names.mjs'
import { milliseconds } from './settings.mjs'
import { inspect, isPlain, originalPosition } from './statements.mjs'

const TIMEOUT = 'canceling statement due to statement timeout'

export class Shared {
  #id
  #special = new Map() // alias of a prepared statement → its effects on the shared session
  #unnamed = null // the last Parse of the unnamed statement, while the client may still use it
  #fresh = false // whether the backend has that statement in this turn
  #edited = null // the last changed SQL text: [original, result of inspect]
  #tags = [] // command tags of statements that were replaced by DO blocks
  #settings = new Map()
  #timeout = null // within a transaction
  /** Aliases of the statements that this connection has prepared. */
  prepared = new Set()
  /** Settings from the start-up packet. */
  initial = new Map()
  /** Whether settings may have changed since they were read; `stale`: the time limit as well. */
  touched = false
  stale = false
  /** Names of customized options, which pg_settings does not show. */
  custom = new Set()
  /** LISTEN and UNLISTEN in this turn (channels.mjs). */
  channels = []

  constructor(id) {
    this.#id = id
  }

  /** The settings at the end of the last turn. */
  get settings() {
    return this.#settings
  }

  set settings(settings) {
    this.#settings = settings
    this.#timeout = null
  }

  /** Milliseconds that a statement may take, 0 for no limit. */
  get timeout() {
    return this.#timeout ?? milliseconds(this.#settings.get('statement_timeout'))
  }

  set timeout(limit) {
    this.#timeout = limit
  }

  /** Whether the shared session may differ from the state recorded here. */
  get changed() {
    return this.touched || this.channels.length > 0
  }

  /** Whether CommandComplete messages must be inspected. */
  get takesComplete() {
    return this.#tags.length > 0
  }

  /** A turn begins: other connections may have used the session meanwhile. */
  begin() {
    this.#fresh = false
  }

  /** The Parse to repeat before the first group of *pending* ([type, bytes]), null for none. */
  toRepeat(pending) {
    if (this.#fresh || this.#unnamed === null) return null
    for (const [type, bytes] of pending) {
      if (type === 'Q' || type === 'S') return null
      const range = 'PBD'.includes(type) ? nameRange(type, bytes) : null
      if (range === null || range[0] < range[1]) continue
      this.#fresh = true
      return type === 'P' ? null : this.#unnamed
    }
    return null
  }

  /** Adapt a message of the client to the shared session; *shared*: there are other connections. */
  outgoing(type, bytes, shared) {
    if (type === 'Q') {
      this.#unnamed = null
      const [text, effects] = this.#text(bytes, HEADER, shared)
      this.#note(effects)
      return text
    }
    if (type === 'P') return this.#parse(bytes, shared)
    const range = 'BDC'.includes(type) ? nameRange(type, bytes) : null
    if (range === null) return bytes
    const [start, end] = range
    if (start === end) {
      if (type === 'C') this.#unnamed = null
      if (type === 'B') this.#note(this.#special.get(''))
      return bytes
    }
    const name = alias(this.#id, bytes.toString('latin1', start, end))
    if (type === 'C') this.prepared.delete(name)
    if (type === 'B') this.#note(this.#special.get(name))
    return replaced(bytes, start, end, name)
  }

  #parse(bytes, shared) {
    const range = nameRange('P', bytes)
    if (range === null) return bytes
    const [start, end] = range
    const [changed, effects] = this.#text(bytes, end + 1, shared)
    if (start === end) {
      this.#unnamed = changed
      this.#fresh = true
      this.#special.set('', effects)
      return changed
    }
    const name = alias(this.#id, bytes.toString('latin1', start, end))
    this.prepared.add(name)
    this.#special.set(name, effects)
    return replaced(changed, start, end, name)
  }

  /** *bytes* with the SQL text at *start* adapted, and the text's effects on the shared session. */
  #text(bytes, start, shared) {
    const end = bytes.indexOf(0, start)
    if (end < 0) return [bytes, undefined]
    const text = bytes.toString('latin1', start, end)
    this.#edited = null
    if (isPlain(text)) return [bytes, undefined]
    const effects = inspect(text, { alias: (name) => alias(this.#id, name), mine: this.prepared, shared })
    if (effects.edits.length === 0) return [bytes, effects]
    this.#edited = [text, effects]
    return [replaced(bytes, start, end, effects.text), effects]
  }

  #note(effects) {
    if (effects === undefined) return
    if (effects.settings) this.touched = this.stale = true
    for (const name of effects.custom) this.custom.add(name)
    this.channels.push(...effects.channels)
    for (const name of effects.prepared) this.prepared.add(name)
    if (effects.tag !== null) this.#tags.push(effects.tag)
  }

  /** ReadyForQuery was received: no further answers to the group follow. */
  synced() {
    this.#tags = []
  }

  /** Adapt an ErrorResponse for the client; *late*: a cancellation was caused by the time limit. */
  error(bytes, late) {
    const fields = readFields(bytes)
    const cancelled = late && fields.some(([letter, text]) => letter === 'C' && text === '57014')
    const changed = fields.map(([letter, text]) => {
      if (letter === 'P' && this.#edited !== null) return [letter, String(originalPosition(Number(text), ...this.#edited))]
      if (letter !== 'M') return [letter, text]
      return [letter, cancelled ? TIMEOUT : withoutAlias(this.#id, text)]
    })
    return fieldsResponse('E', changed)
  }

  /** Adapt a CommandComplete for the client. */
  completed(bytes) {
    if (this.#tags.length === 0 || bytes.toString('latin1', HEADER) !== 'DO\0') return bytes
    return replaced(Buffer.from('C\0\0\0\0'), HEADER, HEADER, this.#tags.shift() + '\0')
  }
}
