// The PGlite sidecar of mosaic-gateway: one Node process with one database and a PostgreSQL socket.
//
//     node main.mjs --modules DIR --data DIR --socket PATH [options, see options.mjs]
//
// Theory of operation. Two threads. The main one has the socket, the connections, the time limits, signals, and the
// supervisor; it never blocks. PGlite works in the other (backend_thread.mjs) and blocks it. Between them is a piece of
// shared memory (bridge.mjs). Reports go to standard output, one JSON object a line; PGlite's log goes to standard
// error. The end of standard input means that the supervisor is gone. Exit codes: 0 stopped, 1 not stopped in time,
// 2 not started, 70 the database died.
import { Worker } from 'node:worker_threads'
import { Backend } from './backend.mjs'
import { bridgeMemory, FrontEnd } from './bridge.mjs'
import { Interrupter } from './interrupt.mjs'
import { readOptions } from './options.mjs'
import { report } from './reports.mjs'
import { Server } from './server.mjs'

const STOP_LIMIT = 180_000 // milliseconds; who gave the order has a limit of its own
const ORPHAN_LIMIT = 10_000 // milliseconds; nobody else ends an orphan, and its lock keeps others waiting
// PostgreSQL guards its own stack (max_stack_depth); V8's, which grows along with it, must not be the first to be full.
const STACK = 64 // MB
const ORPHANED = 'stdin EOF'
const LAST_WORDS = 200 // milliseconds for a client to get the reason for which the process is about to end

process.umask(0o077)

async function main() {
  const options = readOptions(process.argv.slice(2))
  const memory = bridgeMemory()
  const thread = new Thread({ memory, options })
  const { opened, greeting } = await thread.opened
  const interrupter = new Interrupter()
  await interrupter.attach()
  thread.serve()
  const backend = new Backend(new FrontEnd(memory), interrupter)
  const server = new Server({ backend, greeting: Buffer.from(greeting), options, deadline })
  thread.died = die
  process.on('uncaughtException', die)
  backend.listen().catch(die)
  await server.start().catch((error) => {
    throw Object.assign(error, { code: 'SOCKET' })
  })
  const stop = once(async (why) => {
    setTimeout(() => process.exit(1), why === ORPHANED ? ORPHAN_LIMIT : STOP_LIMIT).unref()
    await server.stop()
    backend.stop()
    await thread.closed
    report('stopped', { why })
    process.exit(0)
  })
  for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => stop(signal))
  for (const end of ['end', 'error']) process.stdin.on(end, () => stop(ORPHANED))
  process.stdin.resume()
  report('ready', { pid: process.pid, node: process.version, ...opened })
}

/** The thread of the database: `opened` and `closed` are promises; *died* is called with the reason. */
class Thread {
  #worker
  died = () => {}

  constructor(workerData) {
    const worker = (this.#worker = new Worker(new URL('./backend_thread.mjs', import.meta.url), { workerData, stdin: true, resourceLimits: { stackSizeMb: STACK } }))
    this.closed = new Promise((resolve) => worker.on('message', ({ closed }) => closed && resolve()))
    this.opened = new Promise((resolve, reject) => {
      worker.on('message', (said) => {
        if (said.opened) resolve(said)
        else if (said.failed) reject(said.failed)
        else if (said.fatal) this.died(said.fatal)
      })
      worker.on('error', (error) => {
        reject(error)
        this.died(error)
      })
    })
  }

  /** Let it serve what comes over the bridge; from now on it hears nothing else. */
  serve() {
    this.#worker.postMessage('serve')
  }
}

/** The database is dead: nothing can be saved by going on. */
function die(error) {
  console.error(error)
  report('fatal', { message: String(error.message ?? error) })
  process.exit(70)
}

/** A statement of *connection* could not be ended after *seconds*: end the process. What is committed is on the disk. */
function deadline(connection, seconds) {
  setTimeout(() => {
    report('deadline', { connection, seconds })
    process.kill(process.pid, 'SIGKILL')
  }, LAST_WORDS)
}

function once(action) {
  let begun = false
  return (...words) => {
    if (!begun) action(...words).catch(die)
    begun = true
  }
}

main().catch((error) => {
  report('failed', { code: error.code ?? 'OPEN_FAILED', message: error.message, stderr: error.stderr ?? '' })
  process.exit(2)
})
