// The lock on the single backend: a session holds it for a turn, from a complete group of messages to the end of the
// transaction; other sessions wait in a queue.

/** Calls a session's `granted()` when its turn begins, and `wanted()` when another session starts to wait for it. */
export class Lease {
  #owner = null
  #line = []

  /** The session that holds it, null if none does. */
  get owner() {
    return this.#owner
  }

  /** Whether a session is waiting. */
  get wanted() {
    return this.#line.length > 0
  }

  /** Join the queue; `granted` is called when *session*'s turn begins, immediately if the backend is free. */
  request(session) {
    if (this.#owner === null) {
      this.#owner = session
      session.granted()
    } else {
      this.#line.push(session)
      this.#owner.wanted()
    }
  }

  /** Leave the queue. */
  withdraw(session) {
    this.#line = this.#line.filter((waiting) => waiting !== session)
  }

  /** End the owner's turn and begin that of the next session. */
  release() {
    this.#owner = this.#line.shift() ?? null
    this.#owner?.granted()
  }
}
