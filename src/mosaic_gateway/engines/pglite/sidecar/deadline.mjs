// The time limit of one connection's statements.

/**
 * A clock that runs from `arm` to `clear`.
 *
 * *late* is called at the limit and returns after how many milliseconds more *hopeless* is to be called.
 */
export class Deadline {
  #late
  #hopeless
  #timer = null
  /** The limit in force, milliseconds. */
  limit = 0
  /** Whether it has passed. */
  expired = false

  constructor(late, hopeless) {
    this.#late = late
    this.#hopeless = hopeless
  }

  /** Start with *limit* milliseconds, 0 for none; does nothing while it runs. */
  arm(limit) {
    if (this.#timer !== null || limit === 0) return
    this.limit = limit
    this.#timer = setTimeout(() => {
      this.expired = true
      const more = this.#late()
      if (this.#timer !== null && more !== Infinity) this.#timer = setTimeout(this.#hopeless, more)
    }, limit)
  }

  /** Whether it runs. */
  get running() {
    return this.#timer !== null
  }

  /** What ran has ended. */
  clear() {
    if (this.#timer === null) return
    clearTimeout(this.#timer)
    this.#timer = null
    this.expired = false
  }
}
