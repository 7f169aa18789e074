// What the sidecar tells its supervisor: one JSON object a line on standard output, written at once.
import { writeSync } from 'node:fs'

/** Report *event*; a supervisor that is gone is no reason to fail. */
export function report(event, detail = {}) {
  try {
    writeSync(1, JSON.stringify({ event, ...detail }) + '\n')
  } catch {
    // Nobody reads any more: standard input will say so too.
  }
}
