"""Is there a pooler between us and PostgreSQL?

A transaction pooler (PgBouncer in that mode) gives each transaction another server process, so that a
session's lock and settings mean nothing. It shows: at the start of a connection a pooler sends a process id
of its own making ("BackendKeyData" of the protocol), which is not the one that the server knows.
"""

from __future__ import annotations

import psycopg

__all__ = ["pooler_reason"]

LOOKS = 3


def pooler_reason(connection: psycopg.Connection[tuple[object, ...]]) -> str | None:
    """Return a sentence that says why a pooler must be there, None where none shows. Reads only."""
    seen = {_server_process(connection) for _ in range(LOOKS)}
    if len(seen) > 1:
        return f"consecutive statements ran in the server processes {', '.join(map(str, sorted(seen)))}"
    claimed, real = connection.info.backend_pid, seen.pop()
    if claimed != real:
        return f"the connection was opened to process {claimed}, but statements run in server process {real}"
    return None


def _server_process(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return int(str(row[0])) if row else 0
