"""A server that has one session for all its connections: PGlite behind our sidecar.

The sidecar gives each connection its own settings and prepared statements; what it cannot tell apart are custom
settings, temporary objects and advisory locks: the last are granted to everybody. So the runner holds no lock
there. Transactions come one after the other anyway, and the compare-and-set fences; who runs the server keeps other
runners away by a lock of the operating system.
"""

from __future__ import annotations

import psycopg

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations.model import Plan
from mosaic_gateway.migrations.session_state import custom_names
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = ["SharedSessionError", "has_one_session", "refuse_what_is_shared"]


class SharedSessionError(RefusedError):
    """A migration needs something of its session that other connections could take away."""

    code = "SHARED_SESSION"


def has_one_session(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Return whether all connections of the server of *connection* share one session. Reads only."""
    row = connection.execute("SELECT version()").fetchone()
    return row is not None and "PGlite" in str(row[0])


def refuse_what_is_shared(plan: Plan) -> None:
    """Raise `SharedSessionError` if *plan* holds a statement that is only right while nobody else is connected."""
    for planned in plan.pending:
        for statement in planned.migration.statements:
            what = "makes temporary objects" if traits_of(statement.sql).temporary else ""
            if names := custom_names([statement]):
                what = f"sets {', '.join(names)}"
            if what:
                raise SharedSessionError(
                    f"{planned.migration.tag}.sql, statement {statement.number}, line {statement.line} {what} for its "
                    "session, which PGlite has only one of; the gateway, or another verb, uses it as well",
                    hint="Nothing was run. Stop the gateway first: mosaic-gateway stop",
                    details={"tag": planned.migration.tag, "statement": statement.number, "line": statement.line},
                )
