// Reports to the supervisor: one JSON object a line on standard output, written synchronously.
import { writeSync } from 'node:fs'

/** Report *event*; errors are ignored. */
export function report(event, detail = {}) {
  try {
    writeSync(1, JSON.stringify({ event, ...detail }) + '\n')
  } catch {
    // The supervisor has exited: standard input gets end of file as well.
  }
}
