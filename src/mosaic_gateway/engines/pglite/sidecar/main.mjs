// The PGlite sidecar of mosaic-gateway: one Node process with one database and a PostgreSQL socket.
//
//     node main.mjs --modules DIR --data DIR --socket PATH [options, see options.mjs]
//
// Theory of operation. There are two threads. The main thread handles the socket, connections, time limits, signals
// and reports, and never blocks. PGlite runs in the other thread (backend_thread.mjs) and blocks it. They communicate
// through shared memory (bridge.mjs). Reports go to standard output, one JSON object a line; PGlite's log goes to
// standard error. End of file on standard input means that the supervisor has exited. Exit codes: 0 stopped,
// 1 not stopped in time, 2 not started, 70 the database crashed.
import { Worker } from 'node:worker_threads'
import { Backend } from './backend.mjs'
import { bridgeMemory, FrontEnd } from './bridge.mjs'
import { Interrupter } from './interrupt.mjs'
import { readOptions } from './options.mjs'
import { report } from './reports.mjs'
import { Server } from './server.mjs'

const STOP_LIMIT = 180_000 // milliseconds; the sender of the signal has its own limit
const ORPHAN_LIMIT = 10_000 // milliseconds; no other process ends an orphan, and it still holds the lock
// PostgreSQL limits its own stack (max_stack_depth); V8's stack, which grows with it, must not overflow first.
const STACK = 64 // MB
const ORPHANED = 'stdin EOF'
const LAST_WORDS = 200 // milliseconds for the client to receive the error before the process ends

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
  thread.onCrash = crash
  process.on('uncaughtException', crash)
  backend.listen().catch(crash)
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

/** The database's thread: `opened` and `closed` are promises; *onCrash* is called with the reason of a crash. */
class Thread {
  #worker
  onCrash = () => {}

  constructor(workerData) {
    const worker = (this.#worker = new Worker(new URL('./backend_thread.mjs', import.meta.url), { workerData, stdin: true, resourceLimits: { stackSizeMb: STACK } }))
    this.closed = new Promise((resolve) => worker.on('message', ({ closed }) => closed && resolve()))
    this.opened = new Promise((resolve, reject) => {
      worker.on('message', (message) => {
        if (message.opened) resolve(message)
        else if (message.failed) reject(message.failed)
        else if (message.fatal) this.onCrash(message.fatal)
      })
      worker.on('error', (error) => {
        reject(error)
        this.onCrash(error)
      })
    })
  }

  /** Make it serve the bridge; from now on it receives no other messages. */
  serve() {
    this.#worker.postMessage('serve')
  }
}

/** The database has crashed: report that and exit. */
function crash(error) {
  console.error(error)
  report('fatal', { message: String(error.message ?? error) })
  process.exit(70)
}

/** A statement of *connection* could not be ended after *seconds*: end the process. Commits are on the disk. */
function deadline(connection, seconds) {
  setTimeout(() => {
    report('deadline', { connection, seconds })
    process.kill(process.pid, 'SIGKILL')
  }, LAST_WORDS)
}

function once(action) {
  let called = false
  return (...args) => {
    if (!called) action(...args).catch(crash)
    called = true
  }
}

main().catch((error) => {
  report('failed', { code: error.code ?? 'OPEN_FAILED', message: error.message, stderr: error.stderr ?? '' })
  process.exit(2)
})
