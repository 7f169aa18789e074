"""Session settings changed by migration statements: saved with the progress and restored on resume.

``SET search_path`` in one statement applies to the following statements of the same file. A later
transaction of the same run sees it; a later *run* sees it only because it is saved together with the
statement that set it. Every migration starts with a clean session, so settings do not leak into the next file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import LiteralString

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from mosaic_gateway.migrations.model import Statement
from mosaic_gateway.migrations.quoting import quote_text
from mosaic_gateway.migrations.script import GroupTask
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = [
    "RUNNER_SETTINGS",
    "baseline",
    "capture_sql",
    "clean",
    "custom_names",
    "leave_transaction",
    "restore",
    "restore_reset",
    "session_user_transaction",
    "temporary_settings",
    "unprepared",
]

Connection = psycopg.Connection[tuple[object, ...]]

#: The runner's own settings, set beside those of `session_settings`, and never restored from a progress row.
RUNNER_SETTINGS: Mapping[str, str] = {"synchronous_commit": "off", "client_connection_check_interval": "200ms"}
ROLE = "role"
#: Settings changed in the session. Parameters of BEGIN also have source 'session', but end with the transaction.
SET: LiteralString = (
    "FROM pg_catalog.pg_settings WHERE source = 'session'"
    " AND name NOT IN ('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')"
)
SET_AGAIN: LiteralString = """
SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS list (name, value)
JOIN pg_catalog.pg_settings USING (name) WHERE source <> 'session'
"""
#: A dotted name after SET or in set_config: pg_settings does not list customized options.
CUSTOM = re.compile(r"(?:\bset\s+(?:session\s+)?|set_config\s*\(\s*')([a-z_][\w$]*\.[\w$.]+)", re.IGNORECASE)


def custom_names(statements: Sequence[Statement]) -> tuple[str, ...]:
    """Return the customized options (``my.name``) that *statements* may set."""
    names = {name.lower() for statement in statements for name in CUSTOM.findall(statement.sql)}
    names |= {name for statement in statements for name in traits_of(statement.sql).session or () if "." in name}
    return tuple(sorted(names))


def capture_sql(work: GroupTask, ledger_key: str, baseline: Mapping[str, str]) -> str:
    """Return SQL that saves the session's settings in the progress row of *work*, in its transaction.

    *baseline* are the settings of the clean session: only differences from it are saved, and of what the group set for
    its transaction the value saved before. The role is read first and then reset, because the role that the statement
    set may lack the privilege to write to the progress table.
    """
    local = sorted(work.group.local)
    names = [name for name in custom_names(work.migration.statements[: work.group.last]) if name not in local]
    custom = "".join(f", {quote_text(name)}, current_setting({quote_text(name)}, true)" for name in names)
    known = ", ".join(
        f"({quote_text(name)}, {quote_text(value)})" for name, value in (baseline or RUNNER_SETTINGS).items()
    )
    settings = (
        f"SELECT coalesce(jsonb_object_agg(name, setting), '{{}}') {SET} AND (name, setting) NOT IN (VALUES {known})"
    )
    others = f"jsonb_strip_nulls(jsonb_build_object('role', current_setting('mosaic.role'){custom}))"
    value = f"({settings}) || {others}"
    if local:
        # The server spells some names with capitals: TimeZone, DateStyle.
        is_local = f"lower(key) = ANY(ARRAY[{', '.join(map(quote_text, local))}]::text[])"
        entries = f"SELECT * FROM jsonb_each({value}) WHERE NOT {is_local}"
        entries += f" UNION ALL SELECT * FROM jsonb_each(session) WHERE {is_local}"
        value = f"(SELECT coalesce(jsonb_object_agg(key, value), '{{}}') FROM ({entries}) AS entries)"
    row = f"ledger = {quote_text(ledger_key)} AND tag = {quote_text(work.migration.tag)}"
    return (
        "SELECT set_config('mosaic.role', current_setting('role'), true); SET LOCAL ROLE NONE;"
        f"UPDATE mosaic.migration_progress SET session = {value} WHERE {row};"
    )


def baseline(connection: Connection) -> dict[str, str]:
    """Return the settings changed in the clean session; a capture saves only differences from them."""
    query: LiteralString = "SELECT name, setting " + SET
    return {str(name): str(value) for name, value in connection.execute(query)}


def restore(connection: Connection, session: Mapping[str, str]) -> None:
    """Restore the settings that statements of an earlier run left; the role last, as it may remove privileges."""
    for name, value in sorted(session.items(), key=lambda item: item[0] == ROLE):
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def clean(connection: Connection, settings: Mapping[str, str]) -> None:
    """Reset the session to its state before a migration changed it; *settings* are its `baseline`."""
    connection.execute("RESET SESSION AUTHORIZATION; SET ROLE NONE; RESET ALL; DISCARD TEMP")
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


def restore_reset(connection: Connection, settings: Mapping[str, str]) -> None:
    """Set those of *settings* (the `baseline`) again that a RESET gave the value of the role or the server."""
    connection.execute(SET_AGAIN, (list(settings), list(settings.values())))
    for name, value in RUNNER_SETTINGS.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))


@contextmanager
def temporary_settings(connection: Connection, settings: Mapping[str, str]) -> Iterator[None]:
    """Apply *settings* inside the block and restore the previous values afterwards.

    The session belongs to the caller, who could lose commits if ``synchronous_commit`` stayed off.
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
    """Disable psycopg's prepared statements inside the block: DISCARD and DEALLOCATE would drop them.

    Rows are tuples inside it, whatever the caller's row factory returns.
    """
    threshold, factory = connection.prepare_threshold, connection.row_factory
    connection.prepare_threshold, connection.row_factory = None, tuple_row
    try:
        yield
    finally:
        connection.prepare_threshold, connection.row_factory = threshold, factory


@contextmanager
def session_user_transaction(connection: Connection) -> Iterator[None]:
    """Open a transaction that runs as the session user, without the role that the migration may have set."""
    with connection.transaction():
        connection.execute("SET TRANSACTION READ WRITE; SET LOCAL ROLE NONE")
        yield


def leave_transaction(connection: Connection) -> None:
    """Roll back the transaction that an error or Ctrl-C left open, if any."""
    if connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        connection.execute("ROLLBACK")
