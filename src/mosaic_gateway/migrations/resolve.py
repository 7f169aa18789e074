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
from mosaic_gateway.migrations.groups import divide
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
    """The resolved statements, number ``statement`` to ``through`` of ``tag``; ``finished``: it is now applied.

    They are several if they share one transaction: then all of them took effect, or none.
    """

    tag: str
    statement: int
    through: int
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
    """Record that the unresolved statement of *tag*, with its group, is applied, or that it is to be run again.

    A statement is unresolved if a run was interrupted in it outside a transaction block, if it failed, or if it needs
    temporary objects or a transaction that no longer exist; the last kind can only be run by hand. Runs nothing of the
    migration.
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
        unresolved = row is not None and (row.intent or row.failed_statement or lost)
        if row is None or not unresolved or row.applied >= len(migration.statements):
            raise _nothing_to_resolve(tag)
        number = row.intent or row.applied + 1
        if row.intent is None and answer is ResolveAnswer.APPLIED:
            progress.note_intent(connection, bundle.ledger, migration, number, {})
        if answer is ResolveAnswer.RETRY:
            progress.clear_intent(connection, bundle.ledger, migration, number)
            return Resolution(tag=tag, statement=number, through=number, answer=answer, finished=False)
        through = next(group.last for group in divide(migration.statements) if number <= group.last)
        return _finish(bundle, connection, migration, number, number if row.intent else through)


def _nothing_to_resolve(tag: str) -> NothingToResolveError:
    return NothingToResolveError(
        f"no statement of {tag} needs to be resolved",
        hint=command("storage status") + " shows failed and interrupted statements.",
    )


def _session_lost(migration: Migration, row: ProgressRow | None) -> SessionLostError | None:
    """Return the error if *migration* cannot be resumed because temporary objects are missing, else None."""
    try:
        remaining_statements(migration, row)
    except SessionLostError as error:
        return error
    except PrefixChangedError:
        return None
    return None


def _finish(bundle: Bundle, connection: Connection, migration: Migration, number: int, through: int) -> Resolution:
    last = through == len(migration.statements)
    with connection.transaction():
        if not progress.finish_intent(connection, bundle.ledger, migration, number, through=through):
            raise _nothing_to_resolve(migration.tag)
        if last:
            connection.execute(ledger.recorder(connection, bundle.ledger)(migration).encode())
    return Resolution(tag=migration.tag, statement=number, through=through, answer=ResolveAnswer.APPLIED, finished=last)
