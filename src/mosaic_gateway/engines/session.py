"""Connections with fixed session settings: autocommit, UTC, UTF-8, and detection of a vanished client."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from mosaic_gateway.search_path import CHOSEN, FIXED

__all__ = ["SEARCH_PATH", "connect"]

#: Sets the search path. Where the tables of an installation lie in another schema, found by the role's path, that
#: path stays.
SEARCH_PATH: LiteralString = (
    "set_config('search_path', CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
    " ON n.oid = c.relnamespace WHERE c.oid = to_regclass('users') AND n.nspname NOT IN ('public', current_user))"
    " THEN " + CHOSEN + " ELSE " + FIXED + " END, false)"
)

#: How often a busy backend checks whether its client is still connected (seconds).
CHECK_INTERVAL = 5


def connect(conninfo: str, *, application_name: str, connect_timeout: int = 10) -> psycopg.Connection[TupleRow]:
    """Open a connection in autocommit mode; *connect_timeout* is in seconds.

    Settings are applied by a statement, not by start-up ``options``, which poolers reject.
    Raises psycopg.Error; its text may contain host, user and database, never the password.
    """
    connection = psycopg.connect(
        conninfo,
        autocommit=True,
        application_name=application_name,
        connect_timeout=connect_timeout,
        client_encoding="utf8",
    )
    try:
        _set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _set_up(connection: psycopg.Connection[TupleRow]) -> None:
    zone: LiteralString = "set_config('TimeZone', 'UTC', false), " + SEARCH_PATH
    try:
        connection.execute(f"SELECT {zone}, set_config('client_connection_check_interval', '{CHECK_INTERVAL}s', false)")
    except (psycopg.errors.InvalidParameterValue, psycopg.errors.UndefinedObject):
        # Refused by a server whose system cannot monitor a socket (only 0 is valid), and unknown before PostgreSQL 14.
        connection.execute(f"SELECT {zone}")
