"""What statements leave behind in their session, kept with the progress and restored on resume.

``SET search_path`` in one statement is meant for those that follow in the same file. The next
transaction of a run sees it; the next *run* does not, unless it is written down with the statement
that set it. Every migration begins with a clean session; nothing leaks from one file into the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg.pq import TransactionStatus

from mosaic_gateway.migrations.model import Statement
from mosaic_gateway.migrations.script import StatementTask, quote_text

__all__ = [
    "OURS",
    "adopted_session",
    "as_ourselves",
    "baseline",
    "capture_sql",
    "clean",
    "custom_names",
    "leave_transaction",
    "restore",
    "unprepared",
]

Connection = psycopg.Connection[tuple[object, ...]]

#: What the runner sets in its own session; it is set anew in each, and never restored from a row.
OURS: Mapping[str, str] = {"synchronous_commit": "off", "client_connection_check_interval": "200ms"}
ROLE = "role"
#: What a session has set. What BEGIN sets counts as set in the session, and ends with its transaction.
SET: LiteralString = (
    "FROM pg_catalog.pg_settings WHERE source = 'session'"
    " AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')"
)
#: A dotted name after SET or in set_config: such settings are in no catalog.
CUSTOM = re.compile(r"(?:\bset\s+(?:session\s+)?|set_config\s*\(\s*')([a-z_][\w$]*\.[\w$.]+)", re.IGNORECASE)


def custom_names(statements: Sequence[Statement]) -> tuple[str, ...]:
    """Return the custom settings (``my.name``) that *statements* may set."""
    return tuple(sorted({name.lower() for statement in statements for name in CUSTOM.findall(statement.sql)}))


def capture_sql(work: StatementTask, ledger_key: str, baseline: Mapping[str, str]) -> str:
    """Return SQL that writes the session's settings into the progress row of *work*, in its transaction.

    *baseline* are the settings of the clean session: only what differs is kept. The role is read before
    it is put aside, because the statement's role may not write to our table.
    """
    names = custom_names(work.migration.statements[: work.statement.number])
    custom = "".join(f", {quote_text(name)}, current_setting({quote_text(name)}, true)" for name in names)
    known = ", ".join(f"({quote_text(name)}, {quote_text(value)})" for name, value in (baseline or OURS).items())
    settings = (
        f"SELECT coalesce(jsonb_object_agg(name, setting), '{{}}') {SET} AND (name, setting) NOT IN (VALUES {known})"
    )
    others = f"jsonb_strip_nulls(jsonb_build_object('role', current_setting('mosaic.role'){custom}))"
    row = f"ledger = {quote_text(ledger_key)} AND tag = {quote_text(work.migration.tag)}"
    return (
        "SELECT set_config('mosaic.role', current_setting('role'), true); SET LOCAL ROLE NONE;"
        f"UPDATE mosaic.migration_progress SET session = ({settings}) || {others} WHERE {row};"
    )


def baseline(connection: Connection) -> dict[str, str]:
    """Return what is set in the clean session; a captured one holds what differs from it."""
    query: LiteralString = "SELECT name, setting " + SET
    return {str(name): str(value) for name, value in connection.execute(query)}


def restore(connection: Connection, session: Mapping[str, str]) -> None:
    """Set what an earlier run's statements had set; the role comes last, for it may take rights away."""
    for name, value in sorted(session.items(), key=lambda item: item[0] == ROLE):
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def clean(connection: Connection, settings: Mapping[str, str]) -> None:
    """Make the session as it was before a migration changed it; *settings* are its `baseline`."""
    connection.execute("RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL; DISCARD TEMP")
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


@contextmanager
def adopted_session(connection: Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """Make *settings* inside the block; afterwards the session has its own again.

    The session is the caller's: one that went on with ``synchronous_commit = off`` could lose what it commits.
    """
    names = list(settings)
    query: LiteralString = "SELECT name, current_setting(name) FROM unnest(%s::text[]) AS name"
    before = [(str(name), str(value)) for name, value in connection.execute(query, (names,))]
    try:
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        yield
    finally:
        leave_transaction(connection)
        if not connection.broken:
            for name, value in before:
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))


@contextmanager
def unprepared(connection: Connection) -> Iterator[None]:
    """Keep psycopg from preparing its queries inside the block: DISCARD and DEALLOCATE would take them away."""
    threshold = connection.prepare_threshold
    connection.prepare_threshold = None
    try:
        yield
    finally:
        connection.prepare_threshold = threshold


@contextmanager
def as_ourselves(connection: Connection) -> Iterator[None]:
    """A transaction for our records, without the role that the migration may have taken on."""
    with connection.transaction():
        connection.execute("SET LOCAL ROLE NONE")
        yield


def leave_transaction(connection: Connection) -> None:
    """Roll back what an error or Ctrl-C left open."""
    if connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        connection.execute("ROLLBACK")
