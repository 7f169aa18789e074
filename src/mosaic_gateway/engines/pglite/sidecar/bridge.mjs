// The shared memory between the front (sockets) and the backend (PGlite), which run in two threads.
//
// Theory of operation. Two byte rings, one in each direction, and two bells. Each position counts all bytes since the
// start modulo 2^32 and is written by one side only: `IN_TAIL` and `OUT_HEAD` by the front, `IN_HEAD` and `OUT_TAIL` by
// the backend. Whoever changes something rings the other's bell. The backend sleeps on its bell and blocks its thread:
// that is how PostgreSQL's blocking reads and writes work there, and why a COPY of any size needs no more than a ring.
// The front must never block: it is told of its bell by Atomics.waitAsync.
//
// To be put to sleep and woken takes longer than most queries. So the backend looks for its next input for a third of a
// millisecond before it sleeps, if the last one came as soon as that; an idle or slowly used one sleeps at once.
//
// A short answer of harmless messages need not wait for the front: the backend writes it to the client's socket itself, if
// the front has lent it (`DIRECT`, a descriptor plus one), and leaves word of what it was (`LAST`). The front lends a
// socket only while nothing else is on its way to it, and does not close it before it has it back.
//
// `WAIT` says what the backend is doing: running; waiting at the top of its main loop; or waiting inside of a command,
// for COPY data. It counts only while the ring is empty: more may have been written before the backend could wake.

import { writeSync } from 'node:fs'

const RING = 262_144 // bytes, a power of two
const WORDS = 16
const SOON = 0.3 // milliseconds
const [IN_TAIL, IN_HEAD, OUT_TAIL, OUT_HEAD, BACK_BELL, FRONT_BELL, WAIT, BLOCKED, MORE, STOP, GROUP, DIRECT, LAST, RAW, QUIET] = Array(WORDS).keys()

export const RUNNING = 0
export const TOP = 1
export const INSIDE = 2

/** The memory for one bridge; both ends are made from it. */
export function bridgeMemory() {
  return new SharedArrayBuffer(WORDS * 4 + 2 * RING)
}

class Bridge {
  constructor(memory) {
    this.words = new Int32Array(memory, 0, WORDS)
    this.input = new Uint8Array(memory, WORDS * 4, RING)
    this.output = new Uint8Array(memory, WORDS * 4 + RING, RING)
  }

  get(word) {
    return Atomics.load(this.words, word)
  }

  set(word, value) {
    Atomics.store(this.words, word, value)
  }

  ring(bell) {
    Atomics.add(this.words, bell, 1)
    Atomics.notify(this.words, bell)
  }

  /** Bytes between *head* and *tail*. */
  filled(tail, head) {
    return (this.get(tail) - this.get(head)) >>> 0
  }
}

/** Copy as much of *bytes* as there is room for into *ring* behind position *tail*; return how much. */
function put(ring, tail, used, bytes) {
  const length = Math.min(bytes.length, RING - used)
  const at = tail & (RING - 1)
  const first = Math.min(length, RING - at)
  ring.set(bytes.subarray(0, first), at)
  if (length > first) ring.set(bytes.subarray(first, length), 0)
  return length
}

/** The end that sockets hang on. Nothing here blocks. */
export class FrontEnd extends Bridge {
  /** Give the backend as much of *bytes* as fits; return how much. If not all, a bell says when there is room. */
  write(bytes) {
    this.set(MORE, 1)
    const length = put(this.input, this.get(IN_TAIL), this.filled(IN_TAIL, IN_HEAD), bytes)
    if (length === bytes.length) this.set(MORE, 0)
    if (length > 0) {
      Atomics.add(this.words, IN_TAIL, length)
      this.ring(BACK_BELL)
    }
    return length
  }

  /** What the backend is doing: RUNNING, or waiting (TOP, INSIDE) with everything read that was written. */
  waiting() {
    // In this order: the backend says that it runs before it reads.
    return this.filled(IN_TAIL, IN_HEAD) > 0 ? RUNNING : this.get(WAIT)
  }

  /** Whether all output has been taken. */
  get drained() {
    return this.filled(OUT_TAIL, OUT_HEAD) === 0
  }

  /** A copy of the next piece of output, null if there is none. */
  read() {
    const length = this.filled(OUT_TAIL, OUT_HEAD)
    if (length === 0) return null
    const at = this.get(OUT_HEAD) & (RING - 1)
    const piece = Buffer.from(this.output.subarray(at, Math.min(at + length, RING)))
    Atomics.add(this.words, OUT_HEAD, piece.length)
    if (this.get(BLOCKED)) this.ring(BACK_BELL)
    return piece
  }

  /** Lend the backend the socket *descriptor*: nothing may be on its way to it. *quiet*: nobody waits for the turn's end. */
  lend(descriptor, quiet) {
    this.set(LAST, 0)
    this.set(QUIET, quiet ? 1 : 0)
    this.set(DIRECT, descriptor + 1)
  }

  /** Be woken at the end of the group after all. */
  wakeMe() {
    this.set(QUIET, 0)
  }

  /** Take the socket back, when the backend waits. Returns [type, status] of the last message written to it, or null. */
  takeBack() {
    this.set(DIRECT, 0)
    const last = Atomics.exchange(this.words, LAST, 0)
    return last === 0 ? null : [String.fromCharCode(last >> 8), String.fromCharCode(last & 0xff)]
  }

  /** How many bytes at the beginning of the next output were followed already; asked once. */
  takeRaw() {
    return Atomics.exchange(this.words, RAW, 0)
  }

  /** Number the group of messages that comes next, so that an interrupt for an earlier one does nothing. */
  nextGroup() {
    return Atomics.add(this.words, GROUP, 1) + 1
  }

  /** Let the backend leave its loop once it waits at the top. */
  stop() {
    this.set(STOP, 1)
    this.ring(BACK_BELL)
  }

  /** Call *heard* now and after each bell, until it returns false. */
  async listen(heard) {
    for (;;) {
      const seen = this.get(FRONT_BELL)
      if (heard() === false) return
      const wait = Atomics.waitAsync(this.words, FRONT_BELL, seen)
      await (wait.async ? wait.value : new Promise(setImmediate)) // sockets must have their turn, too
    }
  }
}

const IDLE = (90 << 8) | 73 // ReadyForQuery, I
const HARMLESS = new Set([...'12nTDCIZts'].map((type) => type.charCodeAt(0)))

/** The last message of *bytes* as type × 256 + first byte of its body, if all are whole and of harmless types; or 0. */
function harmless(bytes) {
  let last = 0
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 5 || !HARMLESS.has(bytes[at])) return 0
    last = (bytes[at] << 8) | (bytes[at + 5] ?? 0)
    at += 1 + ((bytes[at + 1] << 24) | (bytes[at + 2] << 16) | (bytes[at + 3] << 8) | bytes[at + 4])
    if (at > bytes.length) return 0
  }
  return last
}

/** Write what a socket takes at once; a client that is gone takes everything. */
function writeSome(descriptor, bytes) {
  try {
    return writeSync(descriptor, bytes)
  } catch (error) {
    return error.code === 'EAGAIN' ? 0 : bytes.length
  }
}

/** The end that PGlite's thread blocks on. */
export class BackEnd extends Bridge {
  #eager = false // the last input came so soon that to sleep and be woken took longer than to wait for it

  /** Whether there is input; if there is none, say so and sleep until there is. False means that all is to stop. */
  awaitInput(where) {
    while (this.filled(IN_TAIL, IN_HEAD) === 0) {
      const seen = this.get(BACK_BELL)
      if (this.filled(IN_TAIL, IN_HEAD) > 0) break
      if (this.get(STOP)) return false
      if (this.get(WAIT) !== where) {
        this.set(WAIT, where)
        const quiet = where === TOP && this.get(DIRECT) > 0 && this.get(LAST) === IDLE && this.get(QUIET)
        if (!quiet) this.ring(FRONT_BELL)
      }
      if (!this.#look()) this.#sleep(seen)
    }
    this.set(WAIT, RUNNING)
    return true
  }

  /** Look for input for a short while, if the last of it came so soon; whether there is some. */
  #look() {
    if (!this.#eager) return false
    for (const ends = performance.now() + SOON; performance.now() < ends; ) {
      if (this.filled(IN_TAIL, IN_HEAD) > 0) return true
    }
    return (this.#eager = false)
  }

  #sleep(seen) {
    const began = performance.now()
    Atomics.wait(this.words, BACK_BELL, seen)
    this.#eager = performance.now() - began < SOON
  }

  /** Copy at most *target.length* bytes of input there; return how many. */
  read(target) {
    const length = Math.min(this.filled(IN_TAIL, IN_HEAD), target.length)
    const at = this.get(IN_HEAD) & (RING - 1)
    const first = Math.min(length, RING - at)
    target.set(this.input.subarray(at, at + first))
    if (length > first) target.set(this.input.subarray(0, length - first), first)
    Atomics.add(this.words, IN_HEAD, length)
    if (this.get(MORE)) this.ring(FRONT_BELL)
    return length
  }

  /** Hand *bytes* to the client or to the front; sleeps while there is no room. */
  write(bytes) {
    const descriptor = this.get(DIRECT) - 1
    if (descriptor >= 0) {
      const last = harmless(bytes)
      const written = last === 0 ? 0 : writeSome(descriptor, bytes)
      if (written > 0) this.set(LAST, last)
      if (written === bytes.length) return
      this.set(DIRECT, 0) // what comes after must not overtake
      bytes = bytes.subarray(written)
      if (written > 0) this.set(RAW, bytes.length)
    }
    while (bytes.length > 0) {
      const seen = this.get(BACK_BELL)
      const length = put(this.output, this.get(OUT_TAIL), this.filled(OUT_TAIL, OUT_HEAD), bytes)
      if (length === 0) {
        this.set(BLOCKED, 1)
        if (this.filled(OUT_TAIL, OUT_HEAD) === RING) Atomics.wait(this.words, BACK_BELL, seen)
        this.set(BLOCKED, 0)
        continue
      }
      bytes = bytes.subarray(length)
      Atomics.add(this.words, OUT_TAIL, length)
      this.ring(FRONT_BELL)
    }
  }

  /** Whether *group* is the one that runs. */
  isRunning(group) {
    return this.get(GROUP) === group && this.get(WAIT) !== TOP
  }
}
