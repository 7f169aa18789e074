"""Servers with one session for all connections: PGlite behind the sidecar.

The sidecar gives each connection its own settings and prepared statements. It cannot separate customized options,
temporary objects and advisory locks; a lock that one client holds is granted to every other client too. The runner
therefore acquires no advisory lock there. Transactions are serialized, the compare-and-set fences concurrent runners,
and the process that runs the server excludes other runners with a lock file.
"""

from __future__ import annotations

import psycopg

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.hint import command
from mosaic_gateway.migrations.model import Plan
from mosaic_gateway.migrations.session_state import custom_names
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = ["SharedSessionError", "has_one_session", "refuse_session_dependent"]


class SharedSessionError(RefusedError):
    """A migration needs session state that other connections could change."""

    code = "SHARED_SESSION"


def has_one_session(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Return whether all connections of the server of *connection* share one session. Reads only."""
    row = connection.execute("SELECT version()").fetchone()
    return row is not None and "PGlite" in str(row[0])


def refuse_session_dependent(plan: Plan) -> None:
    """Raise `SharedSessionError` if *plan* contains a statement that is only safe without other connections."""
    for planned in plan.pending:
        for statement in planned.migration.statements:
            traits = traits_of(statement.sql)
            effect = "creates temporary objects" if traits.temporary else ""
            if traits.sets_session and (names := custom_names([statement])):
                effect = f"sets {', '.join(names)}"
            if effect:
                raise SharedSessionError(
                    f"{planned.migration.file}, statement {statement.number}, line {statement.line} {effect} in its "
                    "session; PGlite has only one session, and the gateway or another command is using it too",
                    hint="Nothing was run. Stop the gateway first: " + command("stop"),
                    details={"tag": planned.migration.tag, "statement": statement.number, "line": statement.line},
                )
