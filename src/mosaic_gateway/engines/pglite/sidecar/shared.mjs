// What one connection has in the session that it shares with the others: prepared statements, settings, channels. Pure.
import { fieldsResponse, HEADER, readFields } from './messages.mjs'
import { alias, nameRange, replaced, withoutAlias } from './names.mjs'
import { milliseconds } from './settings.mjs'
import { inspect, isPlain } from './statements.mjs'

const TIMEOUT = 'canceling statement due to statement timeout'

export class Shared {
  #id
  #special = new Set() // prepared statements (alias) that touch settings
  #unnamed = null // the last Parse without a name, as long as the client may count on it
  #fresh = false // whether the backend has it, in this turn
  #swallow = 0 // answers to Parse messages that the client did not send
  #tags = [] // what to call results of DO blocks that stand for something else
  /** Aliases of the statements that this connection has prepared. */
  prepared = new Set()
  /** Settings from the start-up packet, and those in force (settings.mjs). */
  initial = new Map()
  /** Whether settings may have changed since they were read; `stale`: the time limit, too. */
  touched = false
  stale = false
  /** Changes of channels in this turn (channels.mjs). */
  channels = []
  #settings = new Map()
  #timeout = null // within a transaction

  constructor(id) {
    this.#id = id
  }

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

  /** Whether answers of types that come often must be looked at. */
  get curious() {
    return this.#swallow > 0 || this.#tags.length > 0
  }

  /** A turn begins: others may have used the session since. */
  begin() {
    this.#fresh = false
  }

  /** ReadyForQuery came: what has not been answered by now will not be. */
  synced() {
    this.#swallow = 0
    this.#tags = []
  }

  /** The [type, bytes] to feed for a message of the client; *shared*: there are other connections. */
  incoming(type, bytes, shared) {
    if (type === 'Q') {
      this.#unnamed = null
      return [[type, this.#text(bytes, HEADER, shared)]]
    }
    if (type === 'P') return this.#parse(bytes, shared)
    if (type !== 'B' && type !== 'D' && type !== 'C') return [[type, bytes]]
    const range = nameRange(type, bytes)
    if (range === null) return [[type, bytes]]
    const [start, end] = range
    if (start === end) return this.#withoutName(type, bytes)
    const name = alias(this.#id, bytes.toString('latin1', start, end))
    if (type === 'C') this.prepared.delete(name)
    if (type === 'B' && this.#special.has(name)) this.touched = this.stale = true
    return [[type, replaced(bytes, start, end, name)]]
  }

  #parse(bytes, shared) {
    const [start, end] = nameRange('P', bytes)
    const before = this.touched
    this.touched = false
    const changed = this.#text(bytes, end + 1, shared)
    const special = this.touched
    this.touched ||= before
    if (start === end) {
      this.#unnamed = changed
      this.#fresh = true
      return [['P', changed]]
    }
    const name = alias(this.#id, bytes.toString('latin1', start, end))
    this.prepared.add(name)
    if (special) this.#special.add(name)
    else this.#special.delete(name)
    return [['P', replaced(changed, start, end, name)]]
  }

  /** The unnamed statement is used: if others may have replaced it since, it is parsed once more. */
  #withoutName(type, bytes) {
    if (type === 'C') this.#unnamed = null
    if (type === 'C' || this.#fresh || this.#unnamed === null) return [[type, bytes]]
    this.#fresh = true
    this.#swallow++
    return [['P', this.#unnamed], [type, bytes]]
  }

  /** *bytes* with the SQL text that begins at *start* made fit for the shared session. */
  #text(bytes, start, shared) {
    const end = bytes.indexOf(0, start)
    const text = bytes.toString('latin1', start, end)
    if (isPlain(text)) return bytes
    const found = inspect(text, { alias: (name) => alias(this.#id, name), mine: this.prepared, shared })
    if (found.settings) this.touched = this.stale = true
    this.channels.push(...found.channels)
    for (const name of found.prepared) this.prepared.add(name)
    if (found.tag !== null) this.#tags.push(found.tag)
    return found.text === text ? bytes : replaced(bytes, start, end, found.text)
  }

  /** An ErrorResponse as the client must see it; *late*: the time limit was the reason for a cancellation. */
  error(bytes, late) {
    const fields = readFields(bytes)
    const cancelled = late && fields.some(([letter, text]) => letter === 'C' && text === '57014')
    const changed = fields.map(([letter, text]) => {
      if (letter !== 'M') return [letter, text]
      return [letter, cancelled ? TIMEOUT : withoutAlias(this.#id, text)]
    })
    return fieldsResponse('E', changed)
  }

  /** What to send for CommandComplete or ParseComplete *bytes*; null for nothing. */
  completed(type, bytes) {
    if (type === '1' && this.#swallow > 0) {
      this.#swallow--
      return null
    }
    if (type === 'C' && this.#tags.length > 0 && bytes.toString('latin1', HEADER) === 'DO\0') return tagged(this.#tags.shift())
    return bytes
  }
}

function tagged(tag) {
  return replaced(Buffer.from('C\0\0\0\0'), HEADER, HEADER, tag + '\0')
}

