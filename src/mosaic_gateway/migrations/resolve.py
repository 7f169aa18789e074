"""Records the user's answer whether an interrupted or failed statement took effect."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import psycopg

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.hint import command
from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.advisory_lock import DEFAULT_LOCK_TIMEOUT
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.line_endings import as_begun
from mosaic_gateway.migrations.model import Migration, ProgressRow
from mosaic_gateway.migrations.plan import PrefixChangedError, SessionLostError, remaining_statements
from mosaic_gateway.migrations.pooler import pooler_aware_lock
from mosaic_gateway.migrations.runner import read_state

__all__ = ["NothingToResolveError", "Resolution", "ResolveAnswer", "resolve"]

Connection = psycopg.Connection[tuple[object, ...]]


class ResolveAnswer(StrEnum):
    """The user's answer: the statement took effect, or it is to be run again."""

    APPLIED = "applied"
    RETRY = "retry"


class NothingToResolveError(RefusedError):
    """No statement of this migration needs to be resolved."""

    code = "NOTHING_TO_RESOLVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The resolved statement, number ``statement`` of ``tag``; ``finished``: the migration is now applied."""

    tag: str
    statement: int
    answer: ResolveAnswer
    finished: bool


def resolve(
    bundle: Bundle,
    connection: Connection,
    tag: str,
    answer: ResolveAnswer,
    *,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
) -> Resolution:
    """Record that the unresolved statement of *tag* is applied, or that it is to be run again.

    A statement is unresolved if a run was interrupted in it outside a transaction block, if it failed, or if it needs
    temporary objects that no longer exist; the last kind can only be run by hand. Runs nothing of the migration.
    Raises `NothingToResolveError`, `SessionLostError`, and `MigrationsBusyError`.
    """
    migration = next(migration for migration in bundle.migrations if migration.tag == tag)
    with pooler_aware_lock(connection, lock_timeout):
        row = read_state(connection, bundle).progress.get(tag)
        migration = as_begun(migration, row)
        progress.rename(connection, bundle.ledger, migration, row)
        lost = _session_lost(migration, row)
        if lost is not None and answer is ResolveAnswer.RETRY:
            raise lost
        number = None if row is None else row.intent or row.failed_statement or (row.applied + 1 if lost else None)
        if row is None or number is None or row.applied >= len(migration.statements):
            raise NothingToResolveError(
                f"no statement of {tag} needs to be resolved",
                hint=command("storage status") + " shows failed and interrupted statements.",
            )
        if row.intent is None and answer is ResolveAnswer.APPLIED:
            progress.note_intent(connection, bundle.ledger, migration, number, {})
        if answer is ResolveAnswer.RETRY:
            progress.clear_intent(connection, bundle.ledger, migration, number)
            return Resolution(tag=tag, statement=number, answer=answer, finished=False)
        return _finish(bundle, connection, migration, number)


def _session_lost(migration: Migration, row: ProgressRow | None) -> SessionLostError | None:
    """Return the error if *migration* cannot be resumed because temporary objects are missing, else None."""
    try:
        remaining_statements(migration, row)
    except SessionLostError as error:
        return error
    except PrefixChangedError:
        return None
    return None


def _finish(bundle: Bundle, connection: Connection, migration: Migration, number: int) -> Resolution:
    last = number == len(migration.statements)
    with connection.transaction():
        progress.finish_intent(connection, bundle.ledger, migration, number)
        if last:
            connection.execute(ledger.recorder(connection, bundle.ledger)(migration).encode())
    return Resolution(tag=migration.tag, statement=number, answer=ResolveAnswer.APPLIED, finished=last)
