"""Errors that stop a run: the statement, its place in the file, and PostgreSQL's message."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Self

from mosaic_gateway.errors import MigrationError
from mosaic_gateway.hint import command
from mosaic_gateway.migrations.groups import Cause, Conflict, Group, conflict_in, divide
from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.model import Migration, Plan, Statement
from mosaic_gateway.migrations.sql_excerpt import excerpt, line_in_block
from mosaic_gateway.migrations.statement_traits import AUTHORIZATION, is_word, traits_of
from mosaic_gateway.migrations.wire import ServerError

__all__ = [
    "ATTEMPTS",
    "NOT_IN_TRANSACTION",
    "RETRIED",
    "ChunkRefusedError",
    "ConnectionLostError",
    "Failure",
    "LedgerAccessError",
    "RunnerFencedError",
    "StatementFailedError",
    "UndecidedError",
    "describe",
    "pause",
    "refuse",
]

ROLLED_BACK = "The statement was rolled back; everything before it is applied."
OUTSIDE_TRANSACTION = (
    "The statement ran outside a transaction block; the next run checks what it left. Everything before it is applied."
)
COMMITTED = (
    "The statement commits by itself, and what it committed before the error remains; the next run asks whether to run "
    "it again. Everything before it is applied."
)
SEVERAL = (
    "The chunk has several statements, which PostgreSQL runs in one transaction; they were rolled back. Put the line "
    "--> statement-breakpoint between them. Everything before the chunk is applied."
)
PARTLY = "It commits by itself, so a part of its work may be permanent; --retry runs it again from its beginning. "
#: First words of statements that may commit by themselves (SQLSTATE 2D000 inside a transaction).
COMMITTING = ("call", "do")
NOT_IN_TRANSACTION = {"25001", "2D000"}  # active_sql_transaction, invalid_transaction_termination
RETRIED = {"55P03", "40P01", "40001"}  # lock_not_available, deadlock_detected, serialization_failure
ATTEMPTS = 6
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 3.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failing statement: number ``number`` of ``total`` in ``tag``, at ``line`` of its ``file``.

    ``first`` and ``through`` are the numbers of the first and last statement that were rolled back with it.
    ``line`` is the line of the error if PostgreSQL reports a position (``placed``), else the statement's first line.
    ``column`` counts from 1, None if PostgreSQL reports no position. ``sql`` begins at ``line_of_sql``. ``outside``:
    it ran outside a transaction block. ``context`` is PostgreSQL's, for errors inside a function or a DO block.
    """

    tag: str
    file: str
    number: int
    first: int
    through: int
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
        resume = f"it resumes at {_resumes(failure)}"
        hint = f"{_outcome(failure)} Fix the cause, then run " + command("storage migrate") + f": {resume}."
        super().__init__(
            f"{failure.file}, statement {failure.number} of {failure.total}, line {failure.line}: "
            f"{failure.message} (SQLSTATE {failure.sqlstate}){failure.excerpt_with_context()}",
            hint=f"{failure.pg_hint} " + hint if failure.pg_hint else hint,
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
                **({"group": [failure.first, failure.through]} if failure.first < failure.through else {}),
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
    """A migration file has a statement that no run can execute as it is meant; nothing of the plan was run."""

    code = "CHUNK_REFUSED"

    def __init__(self, migration: Migration, place: Cause, why: str, instead: str) -> None:
        super().__init__(
            f"{migration.file}, statement {place.number} of {len(migration.statements)}, line {place.line}: {why}",
            hint=f"Nothing was run. {instead}",
            details={"tag": migration.tag, "statement": place.number, "line": place.line, "word": place.name},
        )

    @classmethod
    def of_word(cls, migration: Migration, place: Cause) -> Self:
        """Return the error for a statement that is not allowed in any migration."""
        if place.name == AUTHORIZATION:
            why = "the run writes its records as the user who connected"
            instead = "Use SET ROLE instead: it gives the same privileges."
        else:
            why = "a migration is applied entirely or not at all"
            instead = "Remove it from the file. A DO block can catch an expected error."
        return cls(migration, place, f"{place.name.upper()} is not allowed in a migration; {why}", instead)

    @classmethod
    def of_conflict(cls, migration: Migration, conflict: Conflict) -> Self:
        """Return the error for a statement that cannot run in the transaction that another one needs."""
        instead = "Put one of the two into a migration of its own, or a COMMIT between them."
        return cls(migration, conflict.what, conflict.reason, instead)


def refuse(plan: Plan) -> None:
    """Raise `ChunkRefusedError` if a statement of *plan* cannot run as it is meant."""
    for planned in plan.pending:
        statements = planned.migration.statements
        for statement in statements[planned.start :]:
            refused = traits_of(statement.sql).refused
            if refused is not None:
                raise ChunkRefusedError.of_word(planned.migration, Cause.of(statement, refused))
        for group in divide(statements):
            if group.first > planned.start:
                conflict = conflict_in(group, followed=group.last < len(statements))
                if conflict is not None:
                    raise ChunkRefusedError.of_conflict(planned.migration, conflict)


def _outcome(failure: Failure) -> str:
    if failure.outside and failure.sqlstate in NOT_IN_TRANSACTION and len([*lex(failure.sql).statements()]) > 1:
        return SEVERAL
    if failure.outside:
        return COMMITTED if _commits(failure.sql) else OUTSIDE_TRANSACTION
    if failure.first < failure.through:
        return (
            f"Statements {failure.first} to {failure.through} share one transaction and were rolled back; everything "
            "before them is applied."
        )
    return ROLLED_BACK


def _resumes(failure: Failure) -> str:
    if failure.first < failure.through:
        return f"statement {failure.first}"
    return "this statement"


def _commits(sql: str) -> bool:
    """Return whether *sql* is a call or a DO block, which may commit a part of its work."""
    return next((is_word(token, *COMMITTING) for token in lex(sql).tokens), False)


class UndecidedError(MigrationError):
    """A nontransactional statement was interrupted, and it cannot be determined whether it took effect."""

    code = "MIGRATION_UNDECIDED"

    def __init__(self, migration: Migration, statement: Statement) -> None:
        sql = " ".join(statement.sql.split())
        super().__init__(
            f"{migration.file}, statement {statement.number} of {len(migration.statements)}, line {statement.line}: "
            f"an earlier run was interrupted in it, and the catalog does not show whether it took effect: {sql[:200]}",
            hint=f"{PARTLY if _commits(statement.sql) else ''}Check whether it did. If so, run "
            + command("storage resolve", migration.tag, "--applied")
            + "; if not, run "
            + command("storage resolve", migration.tag, "--retry"),
            details={"tag": migration.tag, "statement": statement.number, "line": statement.line, "sql": statement.sql},
        )


def describe(
    migration: Migration,
    group: Group,
    statement: Statement,
    error: ServerError,
    position: int | None,
    *,
    outside: bool,
) -> Failure:
    """Return the failure of *statement* in *group*; *position* counts characters of its text from 1, else None."""
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
        first=group.first,
        through=group.last,
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


def pause(attempt: int) -> None:
    """Sleep before the attempt that follows *attempt* (from 1): exponential back-off with jitter."""
    seconds = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
    time.sleep(seconds * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
