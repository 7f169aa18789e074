"""Why a run stopped: the statement, the place in its file, and what PostgreSQL said."""

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

RETAINED = "The statement was rolled back; everything before it is applied."
KEPT_OUTSIDE = (
    "The statement ran outside of a transaction, and the next run looks what it left; everything before it is applied."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failing statement: number ``number`` of ``total`` in ``tag``, at ``line`` of its file.

    ``line`` is that of the failure where PostgreSQL gives a place (``placed``), else the statement's first one.
    ``column`` counts from 1 and is None where it gives none; ``sql`` begins at ``line_of_sql``. ``outside``: it ran
    outside of a transaction. ``context`` is PostgreSQL's, of a failure inside of a function or a block.
    """

    tag: str
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

    def shown(self) -> str:
        """Return the statement's lines with the place marked, and the context."""
        line = self.line if self.placed else None
        lines = excerpt(self.sql, first_line=self.line_of_sql, line=line, column=self.column)
        return lines + "".join(f"\n  in {line}" for line in self.context.splitlines())


class StatementFailedError(MigrationError):
    """A statement failed; it left no trace, and all statements before it are applied.

    ``applied`` holds the tags that this run finished before.
    """

    code = "STATEMENT_FAILED"

    def __init__(self, failure: Failure, applied: tuple[str, ...]) -> None:
        retained = KEPT_OUTSIDE if failure.outside else RETAINED
        hint = f"{retained} Remove the cause, then run mosaic-gateway storage migrate: it goes on with this statement."
        super().__init__(
            f"{failure.tag}.sql, statement {failure.number} of {failure.total}, line {failure.line}: "
            f"{failure.message} (SQLSTATE {failure.sqlstate}){failure.shown()}",
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
    """The database went away during a run; whatever it committed is recorded as applied."""

    code = "MIGRATION_CONNECTION_LOST"


class LedgerAccessError(MigrationError):
    """The ledger or the progress table cannot be read or written, for want of a right for example."""

    code = "LEDGER_ACCESS"


class RunnerFencedError(MigrationError):
    """Rival runners without the lock kept changing the progress; nothing was applied twice."""

    code = "MIGRATION_FENCED"


class ChunkRefusedError(MigrationError):
    """A migration file begins or ends transactions, or changes the session's user; nothing of the plan was run."""

    code = "CHUNK_REFUSED"

    def __init__(self, migration: Migration, statement: Statement, word: str) -> None:
        super().__init__(
            f"{migration.tag}.sql, statement {statement.number} of {len(migration.statements)}, line {statement.line}: "
            f"{word.upper()} is not for a migration; {self._why(word)}",
            hint=f"Nothing was run. {self._instead(word)}",
            details={"tag": migration.tag, "statement": statement.number, "line": statement.line, "word": word},
        )

    @staticmethod
    def _why(word: str) -> str:
        if word == AUTHORIZATION:
            return "the records of the run belong to the user who connected"
        return "each statement has a transaction of its own"

    @staticmethod
    def _instead(word: str) -> str:
        if word == AUTHORIZATION:
            return "Write SET ROLE: it gives the same rights."
        return (
            "Take the word out of the file; what must hold together belongs into one statement, a DO block for example."
        )


class UndecidedError(MigrationError):
    """A statement outside of transactions was cut off, and nothing says whether it took effect."""

    code = "MIGRATION_UNDECIDED"

    def __init__(self, migration: Migration, statement: Statement) -> None:
        shown = " ".join(statement.sql.split())
        super().__init__(
            f"{migration.tag}.sql, statement {statement.number} of {len(migration.statements)}, line {statement.line}: "
            f"an earlier run was cut off in it, and the catalog does not tell whether it took effect: {shown[:200]}",
            hint=f"Look whether it did. If so: mosaic-gateway storage resolve {migration.tag} --applied; "
            f"if not: mosaic-gateway storage resolve {migration.tag} --retry",
            details={"tag": migration.tag, "statement": statement.number, "line": statement.line, "sql": statement.sql},
        )


def describe(
    migration: Migration, statement: Statement, error: ServerError, position: int | None, *, outside: bool
) -> Failure:
    """Return the failure of *statement*; *position* counts the characters of its text from 1, if known."""
    line, column, placed = statement.line, None, position is not None
    if position is not None:
        before = statement.sql[: max(position - 1, 0)]
        line += before.count("\n")
        column = len(before) - before.rfind("\n")
    elif (in_block := line_in_block(statement.sql, error.context)) is not None:
        line, placed = line + in_block - 1, True
    return Failure(
        tag=migration.tag,
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
