"""The limits on HTTP connections, and the number of descriptors that they may use.

Some descriptors are withheld from connections: for the database, the log, health checks, and the connections that
one pass of the event loop accepts before the protocol can refuse them.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from dataclasses import dataclass, replace

__all__ = ["ACCEPTED_AT_ONCE", "DESCRIPTORS", "HttpLimits", "limits_for", "raise_descriptor_limit"]

#: Soft limit that the process sets if the hard limit permits; also ``LimitNOFILE`` of the unit, and macOS' OPEN_MAX.
DESCRIPTORS = 10_240
WITHHELD = 128  # descriptors
ACCEPTED_AT_ONCE = 32  # connections in one pass of the event loop (asyncio's ``backlog``)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Limits of each connection (bytes, seconds, bytes per second), and of their number.

    A body or an answer may take ``body_seconds`` or ``answer_seconds``, and one second more for each ``rate`` bytes;
    a body must also never stop for ``body_seconds``. Above ``connections``, the longest idle ones are closed; if none
    is idle, ``spare`` more are accepted for one health check each, whose header must arrive within ``spare_seconds``.
    After an error, ``linger_bytes`` are discarded for ``linger_seconds`` before the connection is closed.
    """

    head_bytes: int = 32 * 1024
    head_seconds: float = 10
    body_seconds: float = 30
    answer_seconds: float = 30
    rate: int = 1024
    idle_seconds: float = 75
    linger_seconds: float = 0.5
    linger_bytes: int = 1024 * 1024
    pipelined: int = 32
    connections: int = 4096
    spare: int = 16
    spare_seconds: float = 2


def raise_descriptor_limit() -> int:
    """Raise the soft limit on open descriptors to `DESCRIPTORS` or the hard limit; return the limit in force."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def limits_for(descriptors: int) -> HttpLimits:
    """Return the limits of a process that may open *descriptors*."""
    limits = HttpLimits()
    return replace(limits, connections=min(limits.connections, max(descriptors - WITHHELD, descriptors // 2)))
