// Who has the one backend: a session holds it for a turn, from a complete group of messages to the end of the
// transaction; the others stand in line.

/** A session is anything with `granted()` and `wanted()`, which is called when others begin to wait for its turn to end. */
export class Lease {
  #owner = null
  #line = []

  /** Who has it, null if nobody. */
  get owner() {
    return this.#owner
  }

  /** Whether somebody waits. */
  get wanted() {
    return this.#line.length > 0
  }

  /** Stand in line; `granted` is called when it is *session*'s turn, at once if nobody has it. */
  request(session) {
    if (this.#owner === null) {
      this.#owner = session
      session.granted()
    } else {
      this.#line.push(session)
      this.#owner.wanted()
    }
  }

  /** Leave the line. */
  withdraw(session) {
    this.#line = this.#line.filter((waiting) => waiting !== session)
  }

  /** End the turn of the owner and begin the next one's. */
  release() {
    this.#owner = this.#line.shift() ?? null
    this.#owner?.granted()
  }
}
