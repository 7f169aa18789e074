"""The tables in which a run records what it has applied: ledger and progress."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from mosaic_gateway.migrations import advisory_lock, ledger, progress
from mosaic_gateway.migrations.bundle import LedgerName
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.session_state import session_user_transaction

__all__ = ["create_tables"]

Connection = psycopg.Connection[tuple[object, ...]]


def create_tables(connection: Connection, ledger_name: LedgerName, migrations: Sequence[Migration] = ()) -> None:
    """Create what is missing of ledger and progress table, in one transaction that runs alone.

    The format of the ledger is that of drizzle 1.0 if *migrations* have its layout (`ledger.create`).

    PostgreSQL derives the names of a serial column's sequence and of a primary key's index. If another session creates
    the same table at that moment, the derived name is taken and gets a number, although the table is then created only
    once. Run without the migration lock, two runners would leave ``__drizzle_migrations_id_seq1``.
    """
    with session_user_transaction(connection):
        advisory_lock.lock_creation(connection)
        ledger.create(connection, ledger_name, migrations)
        progress.create(connection)
