// The shared memory between the front end (sockets) and the backend (PGlite), which run in two threads.
//
// Theory of operation. There are two ring buffers, one in each direction, and two bells (futex words). Each position
// counts all bytes since the start modulo 2^32 and is written by one side only: `IN_TAIL` and `OUT_HEAD` by the front
// end, `IN_HEAD` and `OUT_TAIL` by the backend. After each change a side rings the other side's bell. The backend waits
// on its bell and blocks its thread, which gives PostgreSQL its blocking reads and writes, so that a COPY of any size
// needs only the ring. The front end must never block: it waits for its bell with Atomics.waitAsync.
//
// A sleep and a wake-up take longer than most queries. So if the last wait was shorter than 0.3 ms, the backend polls
// for input for 0.3 ms before it sleeps; an idle or rarely used backend sleeps immediately.
//
// A short answer of certain message types bypasses the front end: the backend writes it to the client's socket itself
// if the front end has lent it the socket (`DIRECT`, the descriptor plus one), and records the last message (`LAST`).
// The front end lends a socket only while no other output for it is pending, and does not close a lent socket.
//
// `WAIT` is the backend's state: running; waiting at the top of its main loop; or waiting inside of a command, for COPY
// data. It is valid only while the input ring is empty: input may have been written before the backend woke up.

import { writeSync } from 'node:fs'

const RING = 262_144 // bytes, a power of two
const WORDS = 16
const SOON = 0.3 // milliseconds
const [IN_TAIL, IN_HEAD, OUT_TAIL, OUT_HEAD, BACK_BELL, FRONT_BELL, WAIT, BLOCKED, MORE, STOP, GROUP, DIRECT, LAST, RAW, QUIET] = Array(WORDS).keys()

export const RUNNING = 0
export const TOP = 1
export const INSIDE = 2

/** The memory of one bridge, shared by both ends. */
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

/** Copy as much of *bytes* as fits into *ring* at position *tail*; return how much. */
function put(ring, tail, used, bytes) {
  const length = Math.min(bytes.length, RING - used)
  const at = tail & (RING - 1)
  const first = Math.min(length, RING - at)
  ring.set(bytes.subarray(0, first), at)
  if (length > first) ring.set(bytes.subarray(first, length), 0)
  return length
}

/** The front end of the bridge, used by the sockets' thread. No method blocks. */
export class FrontEnd extends Bridge {
  /** Write as much of *bytes* as fits; return how much. If not all fits, the bell rings when there is space. */
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

  /** The backend's state: RUNNING, or waiting (TOP, INSIDE) with all input read. */
  waiting() {
    // In this order: the backend sets RUNNING before it reads.
    return this.filled(IN_TAIL, IN_HEAD) > 0 ? RUNNING : this.get(WAIT)
  }

  /** Whether all output has been read. */
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

  /** Lend the backend the socket *descriptor*, which must have no pending output. *quiet*: no bell at the group's end. */
  lend(descriptor, quiet) {
    this.set(LAST, 0)
    this.set(QUIET, quiet ? 1 : 0)
    this.set(DIRECT, descriptor + 1)
  }

  /** Request the bell at the end of the group after all. */
  notifyEnd() {
    this.set(QUIET, 0)
  }

  /** Reclaim the socket while the backend waits. Returns [type, status] of the last message written to it, or null. */
  reclaim() {
    this.set(DIRECT, 0)
    const last = Atomics.exchange(this.words, LAST, 0)
    return last === 0 ? null : [String.fromCharCode(last >> 8), String.fromCharCode(last & 0xff)]
  }

  /** How many bytes at the beginning of the next output end a message begun on the socket; reset by the call. */
  takeRaw() {
    return Atomics.exchange(this.words, RAW, 0)
  }

  /** Assign a number to the next group of messages, so that an interrupt of an earlier group has no effect. */
  nextGroup() {
    return Atomics.add(this.words, GROUP, 1) + 1
  }

  /** Make the backend leave its loop once it waits at the top. */
  stop() {
    this.set(STOP, 1)
    this.ring(BACK_BELL)
  }

  /** Call *poll* now and after each bell, until it returns false. */
  async listen(poll) {
    for (;;) {
      const seen = this.get(FRONT_BELL)
      if (poll() === false) return
      const wait = Atomics.waitAsync(this.words, FRONT_BELL, seen)
      await (wait.async ? wait.value : new Promise(setImmediate)) // lets the event loop process sockets
    }
  }
}

const IDLE = (90 << 8) | 73 // ReadyForQuery, I
const SIMPLE = new Set([...'12nTDCIZts'].map((type) => type.charCodeAt(0)))

/** The last message of *bytes* as type × 256 + first byte of its body; 0 unless all are complete and of simple types. */
function lastSimple(bytes) {
  let last = 0
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 5 || !SIMPLE.has(bytes[at])) return 0
    last = (bytes[at] << 8) | (bytes[at + 5] ?? 0)
    at += 1 + ((bytes[at + 1] << 24) | (bytes[at + 2] << 16) | (bytes[at + 3] << 8) | bytes[at + 4])
    if (at > bytes.length) return 0
  }
  return last
}

/** Write what the socket accepts without blocking; for a disconnected client, discard everything. */
function writeSome(descriptor, bytes) {
  try {
    return writeSync(descriptor, bytes)
  } catch (error) {
    return error.code === 'EAGAIN' ? 0 : bytes.length
  }
}

/** The back end of the bridge, used by PGlite's thread. Methods block. */
export class BackEnd extends Bridge {
  #polls = false // the last wait was so short that polling is faster than a sleep and a wake-up

  /** Wait for input in the state *where*; returns false if the backend is to stop. */
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
      if (!this.#poll()) this.#sleep(seen)
    }
    this.set(WAIT, RUNNING)
    return true
  }

  /** Poll for input for a short time if the last wait was short; return whether there is input. */
  #poll() {
    if (!this.#polls) return false
    for (const ends = performance.now() + SOON; performance.now() < ends; ) {
      if (this.filled(IN_TAIL, IN_HEAD) > 0) return true
    }
    return (this.#polls = false)
  }

  #sleep(seen) {
    const began = performance.now()
    Atomics.wait(this.words, BACK_BELL, seen)
    this.#polls = performance.now() - began < SOON
  }

  /** Copy at most *target.length* bytes of input to *target*; return how many. */
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

  /** Write *bytes* to the client's socket or to the front end; sleeps while the ring is full. */
  write(bytes) {
    const descriptor = this.get(DIRECT) - 1
    if (descriptor >= 0) {
      const last = lastSimple(bytes)
      const written = last === 0 ? 0 : writeSome(descriptor, bytes)
      if (written > 0) this.set(LAST, last)
      if (written === bytes.length) return
      this.set(DIRECT, 0) // later output must not overtake the rest
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

  /** Whether *group* is the group being run. */
  isRunning(group) {
    return this.get(GROUP) === group && this.get(WAIT) !== TOP
  }
}
