// The thread that runs PGlite. It is blocked while the database works or waits, so it reacts only to the bridge and,
// through the inspector, to `mosaicInterrupt` (interrupt.mjs).
import { once } from 'node:events'
import { parentPort, workerData } from 'node:worker_threads'
import { BackEnd } from './bridge.mjs'
import { loadModules, openDatabase, OpenError } from './engine.mjs'
import { startupPacket } from './messages.mjs'
import { interrupt, missingParts, serve } from './postgres_loop.mjs'

const { memory, options } = workerData

async function main() {
  const { db, ...opened } = await openDatabase(await loadModules(options.modules), options)
  const module = db.Module
  const missing = missingParts(module)
  if (missing.length > 0) throw new OpenError('OPEN_FAILED', `this PGlite lacks ${missing.join(', ')}`)
  const bridge = new BackEnd(memory)
  globalThis.mosaicInterrupt = (group) => bridge.isRunning(group) && interrupt(module)
  const greeting = db.execProtocolRawSync(startupPacket({ user: 'postgres', database: 'postgres' })).slice()
  parentPort.postMessage({ opened, greeting })
  await once(parentPort, 'message') // sent after the inspector has attached, which needs this thread's event loop
  try {
    serve(module, bridge)
  } catch (error) {
    parentPort.postMessage({ fatal: String(error?.message ?? error) })
    return
  }
  await db.close()
  parentPort.postMessage({ closed: true })
}

main().catch((error) => {
  parentPort.postMessage({ failed: { code: error.code ?? 'OPEN_FAILED', message: error.message, stderr: error.stderr ?? '' } })
})
