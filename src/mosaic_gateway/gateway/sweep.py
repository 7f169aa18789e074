"""Deletion of expired rows by the running gateway: in batches, and only while a connection is idle.

Expired sessions are retained for a day, so that a clock that is a day ahead for a while deletes no valid one.
"""

from __future__ import annotations

import asyncio
import logging

import psycopg

from mosaic_gateway.auth.errors import DatabaseUnavailableError
from mosaic_gateway.auth.rate_limits import FORGET, NOW
from mosaic_gateway.gateway.database import Database

__all__ = ["sweep", "sweep_regularly"]

logger = logging.getLogger(__name__)

FIRST = 2.0  # seconds after the start
INTERVAL = 600.0  # seconds
BATCH = 500  # rows
PAUSE = 0.1  # seconds between batches
AUDIT_DAYS = 90
#: Table → the condition of rows that are no longer needed. Several gateways may delete at once.
EXPIRED = {
    "sessions": "expires_at < statement_timestamp() AT TIME ZONE 'UTC' - interval '1 day'",
    "rate_limits": f"abs({NOW} - last_request) > {FORGET}",
    "audit_log": (
        f"created_at < statement_timestamp() AT TIME ZONE 'UTC' - interval '{AUDIT_DAYS} days'"
        " AND action IN ('sign-in.failed', 'sign-in.refused')"
    ),
}
STATEMENTS = tuple(
    f"DELETE FROM {table} WHERE id IN"  # noqa: S608 - constants only
    f" (SELECT id FROM {table} WHERE {condition} LIMIT {BATCH} FOR UPDATE SKIP LOCKED)".encode()
    for table, condition in EXPIRED.items()
)


async def sweep_regularly(database: Database) -> None:
    """Sweep until cancelled."""
    await asyncio.sleep(FIRST)
    while True:
        try:
            await sweep(database)
        except (DatabaseUnavailableError, psycopg.Error) as error:
            logger.warning("Expired rows were not deleted: %s", " ".join(str(error).split()))
        await asyncio.sleep(INTERVAL)


async def sweep(database: Database) -> None:
    """Delete expired rows of every table; end early while every connection is in use.

    Raises `DatabaseUnavailableError` and psycopg's errors.
    """
    for statement in STATEMENTS:
        while database.has_idle_connection():
            if await _delete(database, statement) < BATCH:
                break
            await asyncio.sleep(PAUSE)


async def _delete(database: Database, statement: bytes) -> int:
    async def delete(connection: psycopg.AsyncConnection) -> int:
        return (await connection.execute(statement)).rowcount

    return await database.write(delete)
