// The PGlite sidecar of mosaic-gateway: one Node process with one database and a PostgreSQL socket.
//
//     node main.mjs --modules DIR --data DIR --socket PATH [--max-connections N] [--queue N] [--queue-limit SECONDS]
//
// Reports go to standard output, one JSON object a line (reports.mjs); PGlite's log goes to standard error.
// The end of standard input means that the supervisor is gone.
import { chmodSync, rmSync } from 'node:fs'
import { loadModules, openDatabase } from './engine.mjs'
import { readOptions } from './options.mjs'
import { report } from './reports.mjs'
import { PgWire } from './session.mjs'

const STOP_LIMIT = 10_000 // milliseconds

process.umask(0o077)

async function main() {
  const options = readOptions(process.argv.slice(2))
  const opened = await openDatabase(await loadModules(options.modules), options)
  const { db } = opened
  const server = new PgWire({
    db,
    path: options.socket,
    maxConnections: options.maxConnections,
    onFatal: (error) => {
      report('fatal', { message: String(error.message ?? error) })
      process.exit(70)
    },
  })
  rmSync(options.socket, { force: true })
  await server.start()
  chmodSync(options.socket, 0o600)
  let stopping = false
  async function stop(why) {
    if (stopping) return
    stopping = true
    setTimeout(() => process.exit(1), STOP_LIMIT).unref()
    await server.stop()
    await db.close()
    rmSync(options.socket, { force: true })
    report('stopped', { why })
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => stop(signal))
  process.stdin.on('end', () => stop('stdin EOF')).on('error', () => stop('stdin EOF')).resume()
  report('ready', { pid: process.pid, node: process.version, postgres: opened.postgres, created: opened.created })
}

main().catch((error) => {
  report('failed', { code: error.code ?? 'OPEN_FAILED', message: error.message, stderr: error.stderr ?? '' })
  process.exit(2)
})
