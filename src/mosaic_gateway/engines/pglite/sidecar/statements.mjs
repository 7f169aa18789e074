// Analysis and rewriting of SQL text, because all connections share one PostgreSQL session. Pure.
//
// Text is decoded as latin1, which preserves every byte of every client encoding. Most texts are excluded by `isPlain`
// and not analysed.

import { RESET_USER } from './settings.mjs'

const RELEVANT = /\b(?:set|reset|discard|set_config|listen|unlisten|deallocate|prepare|execute)\b/i
const SETTING_LEADS = new Set(['set', 'reset', 'discard'])
const BODY_LEADS = new Set(['do', 'call'])
const TOKEN =
  /\s+|--[^\n]*|\/\*|[eE]'(?:[^'\\]|\\[^]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$|[A-Za-z_\x80-\xff][\w$\x80-\xff]*|[^]/y

/** Whether *text* contains none of the keywords that can affect the shared session. */
export function isPlain(text) {
  return !RELEVANT.test(text)
}

/**
 * Analyse *text*.
 *
 * *alias* returns the name in the shared session of a prepared statement of this connection; *mine* are the aliases in
 * use; *shared*: there are other connections. Returns the `text` to run instead, and the `edits` that produced it,
 * [{start, end}, replacement] in the order of the original; whether it changes `settings`, and the names of `custom`
 * ones; the `channels` as ['listen' | 'unlisten', name], name null for all; the aliases of `prepared` statements; and
 * `tag`, the command tag for the DO block that replaces DEALLOCATE ALL or DISCARD ALL.
 */
export function inspect(text, { alias, mine, shared }) {
  const edits = []
  const effects = { text, edits, settings: /\bset_config\b/i.test(text), custom: [], channels: [], prepared: [], tag: null }
  for (const [, name] of text.matchAll(/\bset_config\s*\(\s*'([\w$]+\.[\w$.]+)'/gi)) effects.custom.push(name.toLowerCase())
  for (const words of statements(text)) {
    const [lead, second, third] = words
    if (SETTING_LEADS.has(lead.word) || BODY_LEADS.has(lead.word)) effects.settings = true
    if (lead.word === 'set') effects.custom.push(...customName(text, words))
    if (isUserReset(words)) edits.push([whole(words), RESET_USER])
    if (lead.word === 'listen' && second) effects.channels.push(['listen', second.name])
    else if (lead.word === 'unlisten') effects.channels.push(['unlisten', second?.name ?? null])
    else if (lead.word === 'prepare' && second && second.word !== 'transaction') {
      effects.prepared.push(alias(second.name))
      edits.push([second, quoted(alias(second.name))])
    } else if (lead.word === 'discard' && second?.word === 'all') {
      effects.channels.push(['unlisten', null])
      if (shared) edits.push([whole(words), discardMine(mine)]), (effects.tag = 'DISCARD ALL')
    } else if (lead.word === 'deallocate' && second) {
      const target = second.word === 'prepare' && third ? third : second
      if (target.word !== 'all') edits.push([target, quoted(alias(target.name))])
      else if (shared) edits.push([whole(words), block(deallocations(mine))]), (effects.tag = 'DEALLOCATE ALL')
    } else {
      const name = executed(words)
      if (name) edits.push([name, quoted(alias(name.name))])
    }
  }
  for (const [{ start, end }, instead] of edits.toReversed()) effects.text = effects.text.slice(0, start) + instead + effects.text.slice(end)
  return effects
}

/** The position in the original *text* of character *position* (from 1) of the changed text (both UTF-8 as latin1). */
export function originalPosition(position, text, { text: changed, edits }) {
  let at = Buffer.byteLength([...utf8(changed)].slice(0, position - 1).join(''))
  let grown = 0
  for (const [{ start, end }, instead] of edits) {
    if (at < start + grown) break
    if (at < start + grown + instead.length) {
      at = start + grown
      break
    }
    grown += instead.length - (end - start)
  }
  return [...utf8(text.slice(0, at - grown))].length + 1
}

function utf8(latin1) {
  return Buffer.from(latin1, 'latin1').toString()
}

/** The name in SET [SESSION | LOCAL] prefix.name, [] for a name without a prefix. */
function customName(text, words) {
  const at = ['session', 'local'].includes(words[1]?.word) ? 2 : 1
  const [prefix, name] = words.slice(at, at + 2)
  return name && text[prefix.end] === '.' && name.start === prefix.end + 1 ? [`${prefix.name}.${name.name}`] : []
}

/** RESET SESSION AUTHORIZATION or SET SESSION AUTHORIZATION DEFAULT. */
function isUserReset([lead, second, third, fourth]) {
  if (second?.word !== 'session' || third?.word !== 'authorization') return false
  return lead.word === 'reset' || (lead.word === 'set' && fourth?.word === 'default')
}

/** The name after EXECUTE in EXECUTE, EXPLAIN EXECUTE and CREATE TABLE AS EXECUTE. */
function executed(words) {
  if (!['execute', 'explain', 'create'].includes(words[0].word)) return null
  const at = words.findIndex((token) => token.word === 'execute')
  const name = at < 0 ? null : words[at + 1]
  return name && name.word !== 'function' && name.word !== 'procedure' ? name : null
}

/** The statements of *text*, each a list of identifiers and keywords: {start, end, word, name}; word null if quoted. */
export function statements(text) {
  const all = []
  let words = []
  for (let at = 0; at < text.length; ) {
    TOKEN.lastIndex = at
    const token = TOKEN.exec(text)[0]
    const start = at
    at += token.length
    if (token === '/*') at = commentEnd(text, at)
    else if (token === ';') {
      if (words.length > 0) all.push(words)
      words = []
    } else if (token.length > 1 && token[0] === '$') {
      const close = text.indexOf(token, at)
      at = close < 0 ? text.length : close + token.length
    } else if (token[0] === '"') {
      words.push({ start, end: at, word: null, name: token.slice(1, -1).replaceAll('""', '"') })
    } else if (/^[A-Za-z_\x80-\xff][\w$\x80-\xff]*$/.test(token)) {
      const word = token.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
      words.push({ start, end: at, word, name: word })
    }
  }
  if (words.length > 0) all.push(words)
  return all
}

function commentEnd(text, at) {
  const mark = /\/\*|\*\//g
  mark.lastIndex = at
  for (let depth = 1; depth > 0; ) {
    const next = mark.exec(text)
    if (next === null) return text.length
    depth += next[0] === '/*' ? 1 : -1
  }
  return mark.lastIndex
}

function whole(words) {
  return { start: words[0].start, end: words.at(-1).end }
}

function quoted(name) {
  return `"${name.replaceAll('"', '""')}"`
}

function deallocations(names) {
  return [...names].map((name) => `DEALLOCATE ${quoted(name)}`)
}

/** DISCARD ALL for one of several connections: prepared statements and channels of the others are retained. */
function discardMine(mine) {
  return block([...deallocations(mine), 'CLOSE ALL', 'RESET ALL', 'DISCARD PLANS', 'DISCARD SEQUENCES'])
}

/** One DO statement that runs *commands* in place of one statement. An unknown statement name is not an error. */
function block(commands) {
  const quote = (command) => `'${command.replaceAll("'", "''")}'`
  const lines = commands.map((command) =>
    command.startsWith('DEALLOCATE')
      ? `BEGIN EXECUTE ${quote(command)}; EXCEPTION WHEN invalid_sql_statement_name THEN NULL; END;`
      : `EXECUTE ${quote(command)};`,
  )
  return `DO LANGUAGE plpgsql $mosaic_gateway$ BEGIN ${lines.join(' ')} END $mosaic_gateway$`
}
