// Opens PGlite with durable commits: data is synced to disk before a commit is acknowledged.
import { existsSync, fsyncSync, readFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const MAJOR = '18'
const TAIL = 8192 // characters of PGlite's own log that go into an error
const PACKAGES = ['pglite', 'pglite-pgvector']

/** An error at the start, with a code for the supervisor and the end of PGlite's log. */
export class OpenError extends Error {
  constructor(code, message, stderr = '') {
    super(message)
    this.code = code
    this.stderr = stderr
  }
}

/** Import PGlite and pgvector from the node_modules directory *modules*. */
export async function loadModules(modules) {
  const loaded = {}
  for (const name of PACKAGES) {
    const file = join(modules, '@electric-sql', name, 'dist', 'index.js')
    try {
      Object.assign(loaded, await import(pathToFileURL(file)))
    } catch (error) {
      throw new OpenError('MODULES_MISSING', `@electric-sql/${name} cannot be loaded from ${modules}: ${error.message}`)
    }
  }
  return { PGlite: loaded.PGlite, vector: loaded.vector }
}

/**
 * Open the database in *data*, which is created if it does not exist.
 *
 * Returns the PGlite `db`, whether it was `created`, and the versions `postgres` and `vector` (null if unavailable).
 */
export async function openDatabase({ PGlite, vector }, { data, fsync }) {
  const created = !existsSync(join(data, 'PG_VERSION'))
  if (!created) refuseOtherVersion(data)
  let log = ''
  const onStderr = (line) => {
    log = (log + line + '\n').slice(-TAIL)
    logLine(line)
    return false
  }
  try {
    const db = await PGlite.create({ dataDir: data, extensions: { vector }, startParams: startParams(PGlite, fsync), onStderr })
    if (fsync) hookFsync(db)
    const { rows } = await db.query(
      `SELECT split_part(current_setting('server_version'), ' ', 1) AS postgres,
              (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS vector`,
    )
    return { db, created, ...rows[0] }
  } catch (error) {
    if (error instanceof OpenError) throw error
    throw new OpenError('OPEN_FAILED', `PGlite cannot open ${data}: ${error.message ?? error}`, log)
  }
}

function refuseOtherVersion(data) {
  const major = readFileSync(join(data, 'PG_VERSION'), 'utf8').trim()
  if (major !== MAJOR) throw new OpenError('WRONG_VERSION', `${data} was created by PostgreSQL ${major}; this PGlite supports only ${MAJOR}`)
}

function startParams(PGlite, fsync) {
  const own = ['-c', 'shared_buffers=16MB']
  if (!fsync) return [...PGlite.defaultStartParams, ...own]
  // Omitting -F is not enough: the default method is fdatasync, which in Emscripten returns 0 and does nothing.
  return [...PGlite.defaultStartParams.filter((word) => word !== '-F'), ...own, '-c', 'wal_sync_method=fsync']
}

function hookFsync(db) {
  const operations = db.Module?.FS?.filesystems?.NODEFS?.stream_ops
  if (typeof operations?.read !== 'function' || operations.fsync !== undefined) {
    throw new OpenError('FSYNC_HOOK_MISSING', 'the fsync hook does not fit this PGlite: commits would not be durable')
  }
  operations.fsync = (stream) => {
    if (stream.nfd !== undefined) fsyncSync(stream.nfd)
    return 0
  }
}

function logLine(line) {
  try {
    writeSync(2, line + '\n') // synchronous: this thread's event loop is blocked while the database works
  } catch {
    // A closed log is no reason to stop.
  }
}
