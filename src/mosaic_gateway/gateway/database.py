"""The connection pool and its use by requests, designed for a PostgreSQL server that crashes and restarts.

Theory of operation. A read whose connection broke is repeated once on a tested connection. A write is
never repeated, because it may have been committed before the connection broke; it runs on a tested
connection from the start. While the database is down, the pool abandons a connection attempt after
`RECONNECT_LIMIT` instead of backing off for minutes, so each request triggers a new attempt. From the first
broken connection until the next success, requests wait only `DOWN_WAIT` for a connection. Therefore requests
fail fast during an outage, and the first request after the server's return succeeds. An operation that
takes longer than `ANSWER_LIMIT` is cancelled; if the server does not answer the cancel request either,
psycopg closes the connection 10 s later. PGlite cannot always cancel a statement: there each statement has
the shorter limit `STATEMENT_LIMIT`, after which its process is restarted if the statement still runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from mosaic_gateway.auth.connection import SETTINGS
from mosaic_gateway.auth.errors import DatabaseUnavailableError
from mosaic_gateway.installation.engine_name import EngineName

__all__ = ["Database", "make_pool"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
Pool = AsyncConnectionPool[AsyncConnection]
Operation = Callable[[AsyncConnection], Awaitable[T]]

MAX_CONNECTIONS = 8
MAX_IDLE = 60.0  # seconds until an idle connection beyond the first is closed
UP_WAIT = 2.0  # seconds to wait for a connection while the database is assumed to be up
DOWN_WAIT = 0.4  # seconds to wait while it is down; long enough for one new connection
ANSWER_LIMIT = 5.0  # seconds for one `read` or `write`
STATEMENT_LIMIT = 4.0  # seconds for one statement on PGlite; below ANSWER_LIMIT
RECONNECT_LIMIT = 0.2  # seconds after which the pool stops connecting until the next request
#: libpq parameters: a server that disappears without closing its sockets is detected within about five seconds.
CONNECTION: dict[str, Any] = {
    "autocommit": True,
    "application_name": "mosaic-gateway",
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
}


def make_pool(conninfo: str, engine: EngineName = EngineName.POSTGRES) -> Pool:
    """Return the gateway's pool for *engine*, not yet open; the application opens and closes it."""
    # psycopg_pool warns about every failed attempt during an outage; `Database` logs an outage once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    return AsyncConnectionPool(
        conninfo,
        kwargs=CONNECTION,
        configure=_configure_pglite if engine is EngineName.PGLITE else _configure,
        min_size=1,
        max_size=MAX_CONNECTIONS,
        max_idle=MAX_IDLE,
        timeout=UP_WAIT,
        reconnect_timeout=RECONNECT_LIMIT,
        open=False,
        name="gateway",
    )


class Database:
    """Database reads and writes of requests, over the gateway's pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._down = False

    async def read(self, operation: Operation[T]) -> T:
        """Run *operation* without a transaction; repeat it once if its connection broke.

        It only reads, or does no harm when it is repeated. Raises `DatabaseUnavailableError`.
        """
        with self._outage_tracking():
            async with asyncio.timeout(ANSWER_LIMIT):
                connection = await self._get()
                try:
                    return await operation(connection)
                except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                    if not connection.closed:
                        raise
                    self._failed(error)
                finally:
                    await self._pool.putconn(connection)
                async with self._tested() as fresh:
                    return await operation(fresh)

    async def write(self, operation: Operation[T]) -> T:
        """Run *operation* in one transaction, at most once. Raises `DatabaseUnavailableError`.

        That error is also raised if the connection breaks during COMMIT, so the transaction may be committed.
        """
        with self._outage_tracking():
            async with asyncio.timeout(ANSWER_LIMIT), self._tested() as connection, connection.transaction():
                return await operation(connection)

    def has_idle_connection(self) -> bool:
        """Return whether a connection is open that no request uses."""
        return self._pool.get_stats().get("pool_available", 0) > 0

    @contextmanager
    def _outage_tracking(self) -> Iterator[None]:
        """Record from the outcome of the block whether the database is up; translate connection errors."""
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
            self._failed(error)
            raise DatabaseUnavailableError("The database does not answer at the moment; try again") from error
        if self._down:
            self._down = False
            logger.info("The database answers again")

    @asynccontextmanager
    async def _tested(self) -> AsyncIterator[AsyncConnection]:
        """Provide a connection that has just answered a query; broken ones go back to the pool, which discards them."""
        while True:
            connection = await self._get()
            try:
                if await self._answers(connection):
                    yield connection
                    return
            finally:
                await self._pool.putconn(connection)

    async def _answers(self, connection: AsyncConnection) -> bool:
        try:
            await connection.execute("")
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._failed(error)
            return False
        return True

    async def _get(self) -> AsyncConnection:
        return await self._pool.getconn(DOWN_WAIT if self._down else UP_WAIT)

    def _failed(self, error: Exception) -> None:
        if not self._down:
            self._down = True
            logger.warning("The database does not answer: %s", " ".join(str(error).split()) or type(error).__name__)


async def _configure(connection: AsyncConnection) -> None:
    await connection.execute(SETTINGS)


async def _configure_pglite(connection: AsyncConnection) -> None:
    await connection.execute(f"{SETTINGS}; SET statement_timeout TO '{int(STATEMENT_LIMIT * 1000)}ms'".encode())
