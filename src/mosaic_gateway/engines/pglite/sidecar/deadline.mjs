// The time limit of one connection's statements.

/**
 * A clock that runs from `arm` to `clear`.
 *
 * *late* is called at the limit and returns after how many milliseconds it is to be called again, if the clock still
 * runs then; Infinity when there is nothing more to do.
 */
export class Deadline {
  #late
  #timer = null
  /** The limit in force, milliseconds. */
  limit = 0
  /** Whether it has passed. */
  expired = false

  constructor(late) {
    this.#late = late
  }

  /** Whether it runs. */
  get running() {
    return this.#timer !== null
  }

  /** Start with *limit* milliseconds, 0 for none; does nothing while it runs. */
  arm(limit) {
    if (this.#timer !== null || limit === 0) return
    this.limit = limit
    this.#wait(limit)
  }

  #wait(milliseconds) {
    this.#timer = setTimeout(() => {
      this.expired = true
      const more = this.#late()
      if (this.#timer !== null && more !== Infinity) this.#wait(more)
    }, milliseconds)
  }

  /** What ran has ended. */
  clear() {
    if (this.#timer === null) return
    clearTimeout(this.#timer)
    this.#timer = null
    this.expired = false
  }
}
