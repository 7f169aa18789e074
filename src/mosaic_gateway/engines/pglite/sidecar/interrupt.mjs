// Interrupts a running statement in the backend's thread.
//
// Theory of operation. While WebAssembly runs, its thread processes no events, and its memory cannot be shared. But V8
// checks for interrupts in every loop iteration, in WebAssembly too, and Node's inspector uses such an interrupt: an
// expression sent to a busy thread is evaluated there between two iterations. Here it sets the flags that PostgreSQL's
// SIGINT handler would set. No port is opened and no debugger attached, so speed is unaffected. If Node was built
// without the inspector, statements cannot be interrupted, and a deadline ends the process instead.

import { setTimeout as delay } from 'node:timers/promises'

const ATTACH_LIMIT = 5_000 // milliseconds

/** Interrupts the single worker thread of this process. */
export class Interrupter {
  #session = null
  #worker = null
  #count = 0

  /** Attach to the thread, whose event loop must be running. */
  async attach() {
    let inspector
    try {
      inspector = await import('node:inspector')
    } catch {
      return // ERR_INSPECTOR_NOT_AVAILABLE
    }
    this.#session = new inspector.Session()
    this.#session.connect()
    const attached = new Promise((resolve) => {
      this.#session.once('NodeWorker.attachedToWorker', ({ params }) => resolve(params.sessionId))
    })
    this.#session.post('NodeWorker.enable', { waitForDebuggerOnStart: false })
    this.#worker = await Promise.race([attached, delay(ATTACH_LIMIT, null, { ref: false })])
  }

  /** Interrupt *group* if the backend is running it. False: not supported by this Node.js. */
  interrupt(group) {
    if (this.#worker === null) return false
    const expression = `mosaicInterrupt(${group})`
    const message = JSON.stringify({ id: ++this.#count, method: 'Runtime.evaluate', params: { expression } })
    this.#session.post('NodeWorker.sendMessageToWorker', { sessionId: this.#worker, message })
    return true
  }
}
