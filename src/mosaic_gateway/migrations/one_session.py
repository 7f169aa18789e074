"""A server that has one session for all its connections: PGlite behind a socket.

What one client sets for its session, all have; an advisory lock is granted to everybody; and an open transaction
keeps everybody else waiting, so that a lock must not be held by one. There the runner sets nothing for the
session, as through a transaction pooler, and holds no lock: transactions come one after the other anyway, and the
compare-and-set fences. Who runs the server keeps other runners away by a lock of the operating system.
"""

from __future__ import annotations

import psycopg

__all__ = ["has_one_session"]


def has_one_session(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Return whether all connections of the server of *connection* share one session. Reads only."""
    row = connection.execute("SELECT version()").fetchone()
    return row is not None and "PGlite" in str(row[0])
