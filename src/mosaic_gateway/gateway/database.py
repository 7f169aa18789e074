"""The pool, and how requests use it so that a PostgreSQL that dies and comes back is barely noticed.

Theory of operation. A read whose connection broke is repeated once on a connection that was tested. A
write is never repeated, because it may have been committed before the connection broke; it gets a
tested connection to begin with. While the database is down the pool gives up on a connection after a
fifth of a second instead of backing off for minutes, so that each request makes it try anew; from the
first broken connection on until a success, requests wait only `DOWN_WAIT` for that try. Hence an
outage is answered quickly, and ends with the first request after the server is back. What takes longer
than `ANSWER_LIMIT` is cancelled; a server that answers not even that is given up 10 s later (psycopg).
PGlite cannot always be cancelled: there each statement has a limit below that, at which its process is
ended and started anew if nothing else helps.
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
MAX_IDLE = 60.0  # seconds until a connection beyond the first is given back
UP_WAIT = 2.0  # seconds for a connection while the database is thought to be up
DOWN_WAIT = 0.4  # seconds, long enough for one new connection
ANSWER_LIMIT = 5.0  # seconds for everything that a request wants from the database at once
STATEMENT_LIMIT = 4.0  # seconds for one statement on PGlite; less than a request waits for its answer
GIVE_UP = 0.2  # seconds after which the pool stops trying until somebody asks again
#: libpq: a server that vanished without a word is noticed within about five seconds.
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
    """Return the gateway's pool on *engine*, not yet open; the application opens and closes it."""
    # psycopg_pool warns for every try of an outage, which requests log once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    return AsyncConnectionPool(
        conninfo,
        kwargs=CONNECTION,
        configure=_configure_pglite if engine is EngineName.PGLITE else _configure,
        min_size=1,
        max_size=MAX_CONNECTIONS,
        max_idle=MAX_IDLE,
        timeout=UP_WAIT,
        reconnect_timeout=GIVE_UP,
        open=False,
        name="gateway",
    )


class Database:
    """Reads and writes of requests, over the gateway's pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._down = False

    async def read(self, operation: Operation[T]) -> T:
        """Run *operation*, which only reads, each statement on its own; repeated once if its connection broke.

        Raises `DatabaseUnavailableError`.
        """
        with self._judged():
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

        That error may also mean that the answer to a commit was lost.
        """
        with self._judged():
            async with asyncio.timeout(ANSWER_LIMIT), self._tested() as connection, connection.transaction():
                return await operation(connection)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Learn from how the block ends whether the database is there, and raise what a request understands."""
        try:
            yield
        except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
            self._failed(error)
            raise DatabaseUnavailableError("The database does not answer just now; try again") from error
        if self._down:
            self._down = False
            logger.info("the database answers again")

    @asynccontextmanager
    async def _tested(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection that has just answered; each one found dead makes room for the next."""
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
            logger.warning("the database does not answer: %s", " ".join(str(error).split()) or type(error).__name__)


async def _configure(connection: AsyncConnection) -> None:
    await connection.execute(SETTINGS)


async def _configure_pglite(connection: AsyncConnection) -> None:
    await connection.execute(f"{SETTINGS}; SET statement_timeout TO '{int(STATEMENT_LIMIT * 1000)}ms'".encode())
