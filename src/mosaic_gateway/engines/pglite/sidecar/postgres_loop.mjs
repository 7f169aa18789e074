// PostgreSQL's main loop on the bridge: PGlite's execProtocolRawSync, but with blocking reads and writes.
//
// Theory of operation. PGlite's build of PostgreSQL receives and sends through two callbacks. PGlite's JavaScript code
// passes them a complete batch of messages and collects the answers; here they block on the bridge instead, so that the
// backend reads as from a socket: COPY data arrives while COPY runs, and answers are sent as they are produced.
// PostgresMainLoopOnce processes one message. An error leaves it by a JavaScript exception that represents longjmp;
// PostgresMainLongJmp is the target of that jump. Any other exception means that the backend has crashed.
import { INSIDE, TOP } from './bridge.mjs'

const LONGJMP = 100 // POSTGRES_MAIN_LONGJMP of pglitec.c
const NEEDED = [
  '_PostgresMainLoopOnce', '_PostgresMainLongJmp', '_PostgresSendReadyForQueryIfNecessary', '_pgl_pq_flush',
  '_pgl_set_rw_cbs', '_pq_buffer_remaining_data', 'addFunction', 'stackSave', 'stackRestore',
] // prettier-ignore

/** The functions that `serve` needs and this PGlite lacks. */
export function missingParts(module) {
  return NEEDED.filter((name) => typeof module[name] !== 'function')
}

/** Serve *bridge* until it is stopped. Raises the exception of a crashed backend. */
export function serve(module, bridge) {
  const heap = (at, length) => new Uint8Array(module.wasmMemory.buffer, at, length)
  const receive = module.addFunction((at, length) => {
    bridge.awaitInput(INSIDE)
    return bridge.read(heap(at, length))
  }, 'ipi')
  const send = module.addFunction((at, length) => {
    bridge.write(heap(at, length))
    return length
  }, 'ipi')
  module._pgl_set_rw_cbs(receive, send)
  for (;;) {
    if (module._pq_buffer_remaining_data() === 0) {
      module._PostgresSendReadyForQueryIfNecessary()
      module._pgl_pq_flush()
      if (!bridge.awaitInput(TOP)) return
      clearInterrupt(module)
    }
    const stack = module.stackSave()
    try {
      module._PostgresMainLoopOnce()
    } catch (error) {
      if (error?.status !== LONGJMP) throw error
      module.stackRestore(stack)
      module._PostgresMainLongJmp()
    }
  }
}

/** Cancel the running statement with 57014, as PostgreSQL's SIGINT handler does. False: not supported by this build. */
export function interrupt(module) {
  const { _QueryCancelPending: cancel, _InterruptPending: pending, _MyLatch: latch } = module
  if (!cancel || !pending || !latch) return false
  const memory = new DataView(module.wasmMemory.buffer)
  memory.setInt32(cancel, 1, true)
  memory.setInt32(pending, 1, true)
  const myLatch = memory.getUint32(latch, true)
  if (myLatch !== 0) memory.setInt32(myLatch, 1, true) // is_set, the first member: ends pg_sleep
  return true
}

function clearInterrupt(module) {
  if (module._QueryCancelPending) new DataView(module.wasmMemory.buffer).setInt32(module._QueryCancelPending, 0, true)
}
