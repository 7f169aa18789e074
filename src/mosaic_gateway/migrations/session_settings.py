"""The settings of a session in which migrations run: the runner's, not those of its role, its database or PGOPTIONS.

A time-out of the role would end a long statement, another isolation level or search path would change its result.
Settings of the server and of storage (tablespace, access method) are not changed. Nothing is set for the session of a
transaction pooler, which other clients share: there each transaction gets the settings (`local_settings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations.quoting import quote_name, quote_text
from mosaic_gateway.search_path import CHOSEN, FIXED

__all__ = ["SessionSettingError", "is_direct", "local_settings", "migration_session", "migration_session_if_direct"]

Connection = psycopg.Connection[tuple[object, ...]]

#: In this order, and restored in reverse: the role may lack the privilege to change another setting.
SETTINGS: Mapping[str, str] = {
    "role": "none",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "session_replication_role": "origin",
    "row_security": "on",
    "check_function_bodies": "on",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "quote_all_identifiers": "off",
    "exit_on_error": "off",
    "xmloption": "content",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
}
#: Each setting of the list that the server has: wanted value, present value, and whether a SET of the session made it.
PRESENT: LiteralString = (
    """
SELECT list.name, list.wanted, pg_catalog.current_setting(list.name, true), coalesce(source = 'session', true)
FROM unnest(%s::text[], %s::text[]) AS list (name, wanted) LEFT JOIN pg_catalog.pg_settings USING (name)
UNION ALL
SELECT name, CASE WHEN source = 'session' THEN """
    + CHOSEN
    + " ELSE "
    + FIXED
    + """ END, pg_catalog.current_setting(name), source = 'session'
FROM pg_catalog.pg_settings WHERE name = 'search_path'
"""
)
PRIVILEGED = ("session_replication_role",)
SERVER: LiteralString = "SELECT pg_catalog.pg_backend_pid(), version()"
APPLY: LiteralString = """
SELECT pg_catalog.set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS list (name, value)
"""


class SessionSettingError(RefusedError):
    """The database user may not give the session a setting that migrations need."""

    code = "SESSION_SETTING"


def is_direct(connection: Connection) -> bool:
    """Return whether *connection* has a server process of its own, or the only one of its server (PGlite).

    False: there is a pooler in any mode (`pooler.pooler_reason`).
    """
    row = connection.execute(SERVER).fetchone()
    return row is not None and (row[0] == connection.info.backend_pid or "PGlite" in str(row[1]))


@contextmanager
def migration_session(connection: Connection) -> Iterator[None]:
    """Give the session of *connection* the settings for migrations inside the block, then those that it had.

    A setting that the program has changed with SET is changed as well, except that a search path stays without
    ``"$user"``. Raises `SessionSettingError`.
    """
    deviating = [setting for setting in _present(connection) if setting.current != setting.wanted]
    try:
        _apply(connection, [(setting.name, setting.wanted) for setting in deviating])
    except psycopg.errors.InsufficientPrivilege as error:
        raise SessionSettingError(
            f"the session has settings with which migrations cannot run: {str(error).strip()}",
            hint="Nothing was run. Reset the setting of the role or of the database, or connect as another user.",
            details={setting.name: setting.current for setting in deviating},
        ) from error
    try:
        yield
    finally:
        if not connection.closed and not connection.broken:
            if resets := [f"RESET {quote_name(s.name)};" for s in deviating if not s.set_in_session]:
                connection.execute("".join(resets).encode())
            _apply(connection, [(s.name, s.current) for s in reversed(deviating) if s.set_in_session])


@contextmanager
def migration_session_if_direct(connection: Connection) -> Iterator[None]:
    """Do as `migration_session`, but nothing if a pooler may share the session."""
    if not is_direct(connection):
        yield
        return
    with migration_session(connection):
        yield


def local_settings(connection: Connection) -> str:
    """Return SQL that gives the open transaction the settings for migrations, in whichever session it runs."""
    parts = []
    for setting in _present(connection):
        if setting.name not in PRIVILEGED or setting.current != setting.wanted:
            is_list = setting.name == "search_path"  # its value is a list of quoted names already
            value = setting.wanted if is_list else quote_text(setting.wanted)
            parts.append(f"SET LOCAL {quote_name(setting.name)} = {value};")
    return "".join(parts)


@dataclass(frozen=True, slots=True)
class _Setting:
    """A setting of the session. ``set_in_session``: a RESET would not give it its ``current`` value."""

    name: str
    wanted: str
    current: str
    set_in_session: bool


def _present(connection: Connection) -> list[_Setting]:
    found = connection.execute(PRESENT, (list(SETTINGS), list(SETTINGS.values())))
    return [
        _Setting(str(name), str(wanted), str(current), bool(set_in_session))
        for name, wanted, current, set_in_session in found
        if current is not None  # the server is of an older version
    ]


def _apply(connection: Connection, settings: list[tuple[str, str]]) -> None:
    if settings:
        names, values = zip(*settings, strict=True)
        connection.execute(APPLY, (list(names), list(values)))
