"""Errors that stop a run: the statement, its place in the file, and PostgreSQL's message."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.errors import MigrationError
from mosaic_gateway.migrations.model import Migration, Statement
from mosaic_gateway.migrations.sql_excerpt import excerpt, line_in_block
from mosaic_gateway.migrations.statement_traits import AUTHORIZATION
from mosaic_gateway.migrations.wire import ServerError

__all__ = [
    "ChunkRefusedError",
    "ConnectionLostError",
    "Failure",
    "LedgerAccessError",
    "RunnerFencedError",
    "StatementFailedError",
    "UndecidedError",
    "describe",
]

ROLLED_BACK = "The statement was rolled back; everything before it is applied."
OUTSIDE_TRANSACTION = (
    "The statement ran outside a transaction block; the next run checks what it left. Everything before it is applied."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failing statement: number ``number`` of ``total`` in ``tag``, at ``line`` of its ``file``.

    ``line`` is the line of the error if PostgreSQL reports a position (``placed``), else the statement's first line.
    ``column`` counts from 1, None if PostgreSQL reports no position. ``sql`` begins at ``line_of_sql``. ``outside``:
    it ran outside a transaction block. ``context`` is PostgreSQL's, for errors inside a function or a DO block.
    """

    tag: str
    file: str
    number: int
    total: int
    line: int
    column: int | None
    placed: bool
    outside: bool
    sql: str
    line_of_sql: int
    sqlstate: str
    message: str
    pg_hint: str
    context: str

    def excerpt_with_context(self) -> str:
        """Return the statement's lines with the error position marked, and the context."""
        line = self.line if self.placed else None
        lines = excerpt(self.sql, first_line=self.line_of_sql, line=line, column=self.column)
        return lines + "".join(f"\n  in {line}" for line in self.context.splitlines())


class StatementFailedError(MigrationError):
    """A statement failed and was rolled back; all statements before it are applied.

    ``applied`` holds the tags of the migrations that this run finished.
    """

    code = "STATEMENT_FAILED"

    def __init__(self, failure: Failure, applied: tuple[str, ...]) -> None:
        outcome = OUTSIDE_TRANSACTION if failure.outside else ROLLED_BACK
        hint = f"{outcome} Fix the cause, then run mosaic-gateway storage migrate: it resumes at this statement."
        super().__init__(
            f"{failure.file}, statement {failure.number} of {failure.total}, line {failure.line}: "
            f"{failure.message} (SQLSTATE {failure.sqlstate}){failure.excerpt_with_context()}",
            hint=f"{failure.pg_hint} {hint}".strip(),
            details={
                "tag": failure.tag,
                "statement": failure.number,
                "statements": failure.total,
                "line": failure.line,
                "column": failure.column,
                "sql": failure.sql,
                "sqlstate": failure.sqlstate,
                "pg_message": failure.message,
                "pg_hint": failure.pg_hint,
                "pg_context": failure.context,
                "applied": list(applied),
            },
        )
        self.failure = failure
        self.applied = applied


class ConnectionLostError(MigrationError):
    """The connection was lost during a run; every committed statement is recorded as applied."""

    code = "MIGRATION_CONNECTION_LOST"


class LedgerAccessError(MigrationError):
    """The ledger or the progress table cannot be read or written, for example because a privilege is missing."""

    code = "LEDGER_ACCESS"


class RunnerFencedError(MigrationError):
    """Runners that do not hold the lock repeatedly changed the progress; nothing was applied twice."""

    code = "MIGRATION_FENCED"


class ChunkRefusedError(MigrationError):
    """A migration file begins or ends transactions, or changes the session user; nothing of the plan was run."""

    code = "CHUNK_REFUSED"

    def __init__(self, migration: Migration, statement: Statement, word: str) -> None:
        super().__init__(
            f"{migration.file}, statement {statement.number} of {len(migration.statements)}, line {statement.line}: "
            f"{word.upper()} is not allowed in a migration; {self._why(word)}",
            hint=f"Nothing was run. {self._instead(word)}",
            details={"tag": migration.tag, "statement": statement.number, "line": statement.line, "word": word},
        )

    @staticmethod
    def _why(word: str) -> str:
        if word == AUTHORIZATION:
            return "the run writes its records as the user who connected"
        return "each statement runs in its own transaction"

    @staticmethod
    def _instead(word: str) -> str:
        if word == AUTHORIZATION:
            return "Use SET ROLE instead: it gives the same privileges."
        return "Remove it from the file. Put commands that must commit together into one statement, such as a DO block."


class UndecidedError(MigrationError):
    """A nontransactional statement was interrupted, and it cannot be determined whether it took effect."""

    code = "MIGRATION_UNDECIDED"

    def __init__(self, migration: Migration, statement: Statement) -> None:
        sql = " ".join(statement.sql.split())
        super().__init__(
            f"{migration.file}, statement {statement.number} of {len(migration.statements)}, line {statement.line}: "
            f"an earlier run was interrupted in it, and the catalog does not show whether it took effect: {sql[:200]}",
            hint=f"Check whether it did. If so, run mosaic-gateway storage resolve {migration.tag} --applied; "
            f"if not, run mosaic-gateway storage resolve {migration.tag} --retry",
            details={"tag": migration.tag, "statement": statement.number, "line": statement.line, "sql": statement.sql},
        )


def describe(
    migration: Migration, statement: Statement, error: ServerError, position: int | None, *, outside: bool
) -> Failure:
    """Return the failure of *statement*; *position* counts characters of its text from 1, None if unknown."""
    line, column, placed = statement.line, None, position is not None
    if position is not None:
        before = statement.sql[: max(position - 1, 0)]
        line += before.count("\n")
        column = len(before) - before.rfind("\n")
    elif (in_block := line_in_block(statement.sql, error.context)) is not None:
        line, placed = line + in_block - 1, True
    return Failure(
        tag=migration.tag,
        file=migration.file,
        number=statement.number,
        total=len(migration.statements),
        line=line,
        column=column,
        placed=placed,
        outside=outside,
        sql=statement.sql,
        line_of_sql=statement.line,
        sqlstate=error.sqlstate,
        message=f"{error.message}: {error.detail}" if error.detail else error.message,
        pg_hint=error.hint,
        context=error.context,
    )
