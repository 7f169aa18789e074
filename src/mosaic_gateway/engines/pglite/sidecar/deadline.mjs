// The time limit of one connection's statements.

/**
 * A timer that runs from `arm` to `clear`.
 *
 * *late* is called at the limit. It returns after how many milliseconds to call it again if the timer is still running
 * then; Infinity for never.
 */
export class Deadline {
  #late
  #timer = null
  /** The current limit in milliseconds. */
  limit = 0
  /** Whether the limit has passed. */
  expired = false

  constructor(late) {
    this.#late = late
  }

  /** Whether the timer is running. */
  get running() {
    return this.#timer !== null
  }

  /** Start with *limit* milliseconds, 0 for no limit; does nothing while it is running. */
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

  /** Stop the timer. */
  clear() {
    if (this.#timer === null) return
    clearTimeout(this.#timer)
    this.#timer = null
    this.expired = false
  }
}
