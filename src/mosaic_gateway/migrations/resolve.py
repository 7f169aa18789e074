"""A person's answer to what the catalog could not tell: did a statement take effect?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import psycopg

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.lock import DEFAULT_LOCK_TIMEOUT
from mosaic_gateway.migrations.model import Migration, ProgressRow
from mosaic_gateway.migrations.plan import PrefixChangedError, SessionLostError, remaining_statements
from mosaic_gateway.migrations.pooler import lock_by_any_way
from mosaic_gateway.migrations.runner import read_state

__all__ = ["NothingToResolveError", "Resolution", "ResolveAnswer", "resolve"]

Connection = psycopg.Connection[tuple[object, ...]]


class ResolveAnswer(StrEnum):
    """What became of the statement."""

    APPLIED = "applied"
    RETRY = "retry"


class NothingToResolveError(RefusedError):
    """No statement of this migration waits for an answer."""

    code = "NOTHING_TO_RESOLVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What the answer led to: statement ``statement`` of ``tag``; ``finished`` if the migration is applied now."""

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
    """Record that the waiting statement of *tag* is applied, or that it is to be run again.

    A statement waits when a run was cut off in it outside of a transaction, when it failed, or when it needs
    temporary objects that are gone; the last can only be done by hand. Runs nothing of the migration. Raises
    `NothingToResolveError`, `SessionLostError`, and `MigrationsBusyError`.
    """
    migration = next(migration for migration in bundle.migrations if migration.tag == tag)
    with lock_by_any_way(connection, lock_timeout):
        row = read_state(connection, bundle).progress.get(tag)
        lost = _session_lost(migration, row)
        if lost is not None and answer is ResolveAnswer.RETRY:
            raise lost
        number = None if row is None else row.intent or row.failed_statement or (row.applied + 1 if lost else None)
        if row is None or number is None or row.applied >= len(migration.statements):
            raise NothingToResolveError(
                f"no statement of {tag} waits for an answer", hint="mosaic-gateway storage status shows what does."
            )
        if row.intent is None and answer is ResolveAnswer.APPLIED:
            progress.note_intent(connection, bundle.ledger, migration, number, {})
        if answer is ResolveAnswer.RETRY:
            progress.forget_intent(connection, bundle.ledger, migration, number)
            return Resolution(tag=tag, statement=number, answer=answer, finished=False)
        return _finish(bundle, connection, migration, number)


def _session_lost(migration: Migration, row: ProgressRow | None) -> SessionLostError | None:
    """Return why *migration* cannot go on by itself, if it is for temporary objects."""
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
