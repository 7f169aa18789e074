"""Opening a connection the same way everywhere: autocommit, UTC, UTF-8, and noticed when we are gone."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

__all__ = ["SEARCH_PATH", "connect"]

#: An expression that takes ``"$user"`` out of the search path. Where a schema has the name of the role (ours
#: is called ``mosaic``), the tables would land in it, and references to ``public`` find nothing.
SEARCH_PATH: LiteralString = (
    "set_config('search_path', coalesce(nullif(regexp_replace("
    """current_setting('search_path'), '"?\\$user"?\\s*,?\\s*', ''), ''), 'public'), false)"""
)

#: How soon a busy backend notices that its client is gone (seconds).
CHECK_INTERVAL = 5


def connect(conninfo: str, *, application_name: str, connect_timeout: int = 10) -> psycopg.Connection[TupleRow]:
    """Open a connection in autocommit mode; *connect_timeout* is in seconds.

    The session is set up by a statement and not by start-up ``options``, which poolers refuse.
    Raises psycopg.Error; its text may name host, user and database, never the password.
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
        # A server on a system that cannot watch a socket refuses any value but 0; servers before 14 know it not.
        connection.execute(f"SELECT {zone}")
