"""Session settings for connections to the user tables, and `run_on`, which runs one operation on a new connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import LiteralString, TypeVar

import psycopg
from psycopg import AsyncConnection

from mosaic_gateway.auth.errors import DatabaseUnavailableError, SchemaMissingError
from mosaic_gateway.engines.session import SEARCH_PATH
from mosaic_gateway.hint import command

__all__ = ["CONNECT_TIMEOUT", "SETTINGS", "run_on"]

T = TypeVar("T")

CONNECT_TIMEOUT = 5  # seconds
#: Times are UTC. Creating the first admin relies on READ COMMITTED: the statement after the advisory lock must see
#: what was committed while the lock was waited for. So the server's default isolation level is overridden.
SETTINGS: LiteralString = (
    "SET TIME ZONE 'UTC'; SET default_transaction_isolation TO 'read committed'; SET statement_timeout TO '10s';"
    " SELECT " + SEARCH_PATH
)


def run_on(conninfo: str, operation: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """Run *operation* in one transaction on a new connection to *conninfo* and return its result.

    For command-line verbs, not inside an event loop. Raises `DatabaseUnavailableError`, `SchemaMissingError`
    and what *operation* raises; every error rolls the transaction back.
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
            "The database has no users table: the migrations have not been applied",
            hint="Run: " + command("storage migrate"),
        ) from error
    except psycopg.OperationalError as error:
        # libpq's message contains host and reason, never the password.
        raise DatabaseUnavailableError(
            f"The database does not answer: {str(error).strip()}", hint="Run: " + command("status")
        ) from error
