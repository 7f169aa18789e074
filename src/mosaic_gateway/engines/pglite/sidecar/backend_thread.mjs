// The thread in which PGlite lives. It blocks while the database works or waits, so it hears nothing but the bridge
// and, through the inspector, `mosaicInterrupt` (interrupt.mjs).
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
  await once(parentPort, 'message') // the inspector is attached: it needs our event loop for that
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
