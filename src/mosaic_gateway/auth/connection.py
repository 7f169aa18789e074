"""How connections that read and write users are set up, and one operation run on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection

from mosaic_gateway.auth.errors import DatabaseUnavailableError, SchemaMissingError
from mosaic_gateway.engines.session import SEARCH_PATH

__all__ = ["CONNECT_TIMEOUT", "SETTINGS", "run_on"]

T = TypeVar("T")

CONNECT_TIMEOUT = 5  # seconds
#: Times are UTC wall clock. The first-admin lock only works if a statement sees what was committed while
#: it waited, so the isolation level is not left to the server's configuration. No statement is unbounded.
SETTINGS: LiteralString = (
    "SET TIME ZONE 'UTC'; SET default_transaction_isolation TO 'read committed'; SET statement_timeout TO '10s';"
    " SELECT " + SEARCH_PATH
)


def run_on(conninfo: str, operation: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Run *operation* in one transaction on a fresh connection to *conninfo* and return its result.

    For command-line verbs; not from within an event loop. Raises `DatabaseUnavailableError` and
    `SchemaMissingError` beside what *operation* raises; nothing is kept where it raises.
    """
    return asyncio.run(_run_on(conninfo, operation))


async def _run_on(conninfo: str, operation: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    try:
        connection = await AsyncConnection.connect(
            conninfo, autocommit=True, application_name="mosaic-gateway cli", connect_timeout=CONNECT_TIMEOUT
        )
        async with connection:
            await connection.execute(SETTINGS)
            async with connection.transaction():
                return await operation(connection)
    except psycopg.errors.UndefinedTable as error:
        raise SchemaMissingError(
            "The database has no users table: its schema has not been applied",
            hint="Run: mosaic-gateway storage migrate",
        ) from error
    except psycopg.OperationalError as error:
        # libpq's text names host and reason, never the password.
        raise DatabaseUnavailableError(
            f"The database does not answer: {str(error).strip()}", hint="Run: mosaic-gateway status"
        ) from error
