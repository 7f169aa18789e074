// Interrupts the backend's thread in the midst of a statement.
//
// Theory of operation. While WebAssembly runs, its thread takes no events, and its memory cannot be shared. But V8 looks
// at every turn of a loop, WebAssembly's included, whether something asks for attention, and Node's inspector asks that
// way: an expression that is sent to a busy thread is evaluated there at once, between two turns of the loop. Here it
// sets the flags that PostgreSQL's own signal handler would set. Nothing is opened to the outside for that, and no
// debugger is attached, so nothing becomes slower. Where Node was built without its inspector nothing can be
// interrupted, and a deadline ends the process instead.

import { setTimeout as delay } from 'node:timers/promises'

const ATTACH_LIMIT = 5_000 // milliseconds

/** A way to `interrupt` the one worker thread of this process. */
export class Interrupter {
  #session = null
  #worker = null
  #count = 0

  /** Find the thread; its event loop must turn. */
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

  /** Interrupt *group* if it is what the backend runs by then. False means that it is not possible here. */
  interrupt(group) {
    if (this.#worker === null) return false
    const expression = `mosaicInterrupt(${group})`
    const message = JSON.stringify({ id: ++this.#count, method: 'Runtime.evaluate', params: { expression } })
    this.#session.post('NodeWorker.sendMessageToWorker', { sessionId: this.#worker, message })
    return true
  }
}
