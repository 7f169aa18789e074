// What one connection has in the session that it shares with the others: prepared statements, settings, channels.
//
// Messages pass through here when they are fed, not when they come: only then is it certain what came before them.
import { fieldsResponse, HEADER, readFields } from './messages.mjs'
import { alias, nameRange, replaced, withoutAlias } from './names.mjs'
import { milliseconds } from './settings.mjs'
import { inspect, isPlain, originalPosition } from './statements.mjs'

const TIMEOUT = 'canceling statement due to statement timeout'

export class Shared {
  #id
  #special = new Map() // what a prepared statement (alias) does to the shared session, if anything
  #unnamed = null // the last Parse without a name, as long as the client may count on it
  #fresh = false // whether the backend has it, in this turn
  #edited = null // the last text, if it was changed: [original, what was found]
  #tags = [] // what to call the results of DO blocks that stand for something else
  #settings = new Map()
  #timeout = null // within a transaction
  /** Aliases of the statements that this connection has prepared. */
  prepared = new Set()
  /** Settings from the start-up packet. */
  initial = new Map()
  /** Whether settings may have changed since they were read; `stale`: the time limit, too. */
  touched = false
  stale = false
  /** Names of settings that only exist because they were set. */
  custom = new Set()
  /** Changes of channels in this turn (channels.mjs). */
  channels = []

  constructor(id) {
    this.#id = id
  }

  /** The settings in force at the end of the last turn. */
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

  /** Whether what the shared session has may differ from what is noted here. */
  get changed() {
    return this.touched || this.channels.length > 0
  }

  /** Whether answers must be looked at one by one. */
  get curious() {
    return this.#tags.length > 0
  }

  /** A turn begins: others may have used the session since. */
  begin() {
    this.#fresh = false
  }

  /** The Parse that must be repeated before the group at the beginning of *pending* ([type, bytes]); null for none. */
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

  /** A message of the client made fit for the shared session; *shared*: there are other connections. */
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

  /** *bytes* with the SQL text that begins at *start* made fit, and what the text does to the shared session. */
  #text(bytes, start, shared) {
    const end = bytes.indexOf(0, start)
    if (end < 0) return [bytes, undefined]
    const text = bytes.toString('latin1', start, end)
    this.#edited = null
    if (isPlain(text)) return [bytes, undefined]
    const found = inspect(text, { alias: (name) => alias(this.#id, name), mine: this.prepared, shared })
    if (found.edits.length === 0) return [bytes, found]
    this.#edited = [text, found]
    return [replaced(bytes, start, end, found.text), found]
  }

  #note(effects) {
    if (effects === undefined) return
    if (effects.settings) this.touched = this.stale = true
    for (const name of effects.custom) this.custom.add(name)
    this.channels.push(...effects.channels)
    for (const name of effects.prepared) this.prepared.add(name)
    if (effects.tag !== null) this.#tags.push(effects.tag)
  }

  /** ReadyForQuery came: what has not been answered by now will not be. */
  synced() {
    this.#tags = []
  }

  /** An ErrorResponse as the client must see it; *late*: the time limit was the reason for a cancellation. */
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

  /** A CommandComplete as the client must see it. */
  completed(bytes) {
    if (this.#tags.length === 0 || bytes.toString('latin1', HEADER) !== 'DO\0') return bytes
    return replaced(Buffer.from('C\0\0\0\0'), HEADER, HEADER, this.#tags.shift() + '\0')
  }
}
