// Session settings of many connections in one session: SQL to read them after a turn and to restore them before the
// next one. Pure.

/** SQL that resets the session user; RESET SESSION AUTHORIZATION has no effect in a single-user backend. */
export const RESET_USER = 'SET SESSION AUTHORIZATION postgres'

/** SQL for the settings changed in the session, rows of name and value; *custom*: names not shown in pg_settings. */
export function read(custom) {
  // Settings of BEGIN end with the transaction.
  const shown = `SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session'
    AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')`
  const others = ['role', 'session_authorization', ...custom].map(literal)
  return `${shown} UNION ALL SELECT name, pg_catalog.current_setting(name, true) FROM pg_catalog.unnest(ARRAY[${others}]) AS name
    WHERE pg_catalog.current_setting(name, true) NOT IN ('', 'none') AND (name <> 'session_authorization' OR session_user <> 'postgres')`
}

/** SQL for the time limit; unlike a SELECT it may precede SET TRANSACTION. */
export const SHOW_TIMEOUT = 'SHOW statement_timeout'

const UNITS = { ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }
const LAST = ['session_authorization', 'role'] // last, because they can remove privileges that other settings need

/** SQL that resets the session's settings and applies *settings*, a Map. */
export function restore(settings) {
  return `${RESET_USER}; RESET ROLE; RESET ALL;${apply(settings)}`
}

/** SQL that sets *settings*, '' if there are none. */
export function apply(settings) {
  const order = ([name]) => LAST.indexOf(name)
  const calls = [...settings]
    .sort((a, b) => order(a) - order(b))
    .map(([name, value]) => `pg_catalog.set_config(${literal(name)}, ${literal(value)}, false)`)
  return calls.length > 0 ? `SELECT ${calls.join(', ')};` : ''
}

/** A string that is equal for equal settings. */
export function key(settings) {
  return settings.size === 0 ? '' : JSON.stringify([...settings].sort())
}

/** Milliseconds of a time in the format of SHOW (`1500ms`, `5s`, `0`) or of pg_settings (`1500`); 0 for no limit. */
export function milliseconds(text) {
  const [, number, unit] = /^(\d+)\s*([a-z]*)$/.exec(text ?? '') ?? [null, '0', '']
  return Number(number) * (UNITS[unit || 'ms'] ?? 0)
}

/** *text* as an SQL literal, whatever standard_conforming_strings says. */
export function literal(text) {
  const quoted = `'${text.replaceAll("'", "''")}'`
  return text.includes('\\') ? ` E${quoted.replaceAll('\\', '\\\\')}` : quoted
}
