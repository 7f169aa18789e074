"""Why a run stopped: the statement, the place in its file, and what PostgreSQL said."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from mosaic_gateway.errors import MigrationError
from mosaic_gateway.migrations.model import Migration, Statement

__all__ = [
    "ConnectionLostError",
    "Failure",
    "LedgerAccessError",
    "RunnerFencedError",
    "StatementFailedError",
    "describe",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failing statement: number ``number`` of ``total`` in ``tag``, at ``line`` of its file."""

    tag: str
    number: int
    total: int
    line: int
    sqlstate: str
    message: str
    pg_hint: str


class StatementFailedError(MigrationError):
    """A statement failed; it left no trace, and all statements before it are applied.

    ``applied`` holds the tags that this run finished before.
    """

    code = "STATEMENT_FAILED"

    def __init__(self, failure: Failure, applied: tuple[str, ...]) -> None:
        hint = "The statement was rolled back; everything before it is applied. Remove the cause, then run "
        hint += "mosaic-gateway storage migrate: it goes on with this statement."
        super().__init__(
            f"{failure.tag}.sql, statement {failure.number} of {failure.total}, line {failure.line}: "
            f"{failure.message} (SQLSTATE {failure.sqlstate})",
            hint=f"{failure.pg_hint} {hint}".strip(),
            details={
                "tag": failure.tag,
                "statement": failure.number,
                "statements": failure.total,
                "line": failure.line,
                "sqlstate": failure.sqlstate,
                "pg_message": failure.message,
                "pg_hint": failure.pg_hint,
                "applied": list(applied),
            },
        )
        self.failure = failure
        self.applied = applied


class ConnectionLostError(MigrationError):
    """The database went away during a run; whatever it committed is recorded as applied."""

    code = "MIGRATION_CONNECTION_LOST"


class LedgerAccessError(MigrationError):
    """The ledger or the progress table cannot be read or written, for want of a right for example."""

    code = "LEDGER_ACCESS"


class RunnerFencedError(MigrationError):
    """Rival runners without the lock kept changing the progress; nothing was applied twice."""

    code = "MIGRATION_FENCED"


def describe(migration: Migration, statement: Statement, error: psycopg.Error) -> Failure:
    """Return the failure of *statement*; the line is that of PostgreSQL's position where it gives one."""
    position = error.diag.statement_position
    line = statement.line
    if position is not None:
        line += statement.sql[: max(int(position) - 1, 0)].count("\n")
    detail = f": {error.diag.message_detail}" if error.diag.message_detail else ""
    return Failure(
        tag=migration.tag,
        number=statement.number,
        total=len(migration.statements),
        line=line,
        sqlstate=error.sqlstate or "?????",
        message=f"{error.diag.message_primary or str(error).strip()}{detail}",
        pg_hint=error.diag.message_hint or "",
    )
