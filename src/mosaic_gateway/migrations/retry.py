"""Retry policy for statements that could not get a lock: number of attempts and pauses."""

from __future__ import annotations

import random
import time

__all__ = ["ATTEMPTS", "RETRIED", "pause"]

RETRIED = {"55P03", "40P01", "40001"}  # lock_not_available, deadlock_detected, serialization_failure
ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0  # seconds


def pause(attempt: int) -> None:
    """Sleep before the attempt that follows *attempt* (from 1): exponential back-off with jitter."""
    seconds = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
    time.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
