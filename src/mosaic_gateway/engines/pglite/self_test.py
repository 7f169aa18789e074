"""Checks of an open PGlite before it is used: its versions, and a test of pgvector."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import psycopg
from psycopg.rows import TupleRow

from mosaic_gateway.engines.base import EngineError, VectorMissingError
from mosaic_gateway.engines.pglite.npm_packages import PGVECTOR, Shipped
from mosaic_gateway.engines.pglite.runtime import PgliteRuntime
from mosaic_gateway.engines.postgres.self_test import SelfTestRecord, run_self_test
from mosaic_gateway.engines.requirements import ServerFacts, check_server
from mosaic_gateway.engines.session import connect
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home

__all__ = ["APPLICATION", "examine", "self_test_record", "update_vector"]

APPLICATION = "mosaic-gateway engine"
#: Creates the engine's error from its message.
ErrorFactory = Callable[[str], EngineError]


def update_vector(conninfo: str, failed: ErrorFactory) -> str | None:
    """Update the extension pgvector to the loaded version and return a message; another PGlite 0.5 may differ."""
    with _session(conninfo, failed, "PGlite started, but does not accept a session") as connection:
        row = connection.execute(
            "SELECT extversion, default_version"
            " FROM pg_extension JOIN pg_available_extensions ON name = extname"
            " WHERE extname = 'vector' AND extversion <> default_version"
        ).fetchone()
        if row is None:
            return None
        connection.execute("ALTER EXTENSION vector UPDATE")
        return f"pgvector {row[0]} was updated to {row[1]}"


def examine(conninfo: str, runtime: PgliteRuntime, record: SelfTestRecord, failed: ErrorFactory) -> ServerFacts:
    """Return the versions; tests pgvector unless *record* has the test as passed. Raises `VectorMissingError`."""
    with _session(conninfo, failed, "The check of PGlite failed") as connection:
        facts = _facts(connection, runtime)
        if not record.passed():
            run_self_test(connection)
            with suppress(OSError):  # the test is repeated at the next start
                record.write()
        return facts


def self_test_record(home: Home, shipped: Shipped, runtime: PgliteRuntime) -> SelfTestRecord:
    """Return the record in *home* of a passed test with these packages on this Node.js."""
    return SelfTestRecord(home.run / "self-test.json", "pglite", shipped.packages_digest, runtime.node.version)


def _facts(connection: psycopg.Connection[TupleRow], runtime: PgliteRuntime) -> ServerFacts:
    try:
        return check_server(connection, try_extension=False)
    except VectorMissingError as error:
        raise VectorMissingError(
            f"PGlite is running without pgvector: the package {PGVECTOR} was not loaded from {runtime.modules}",
            hint="Run " + command("install") + " again; with --pglite-dir, install that package there as well.",
            details={"package": PGVECTOR},
        ) from error


@contextmanager
def _session(conninfo: str, failed: ErrorFactory, what: str) -> Iterator[psycopg.Connection[TupleRow]]:
    try:
        with closing(connect(conninfo, application_name=APPLICATION)) as connection:
            yield connection
    except psycopg.Error as error:
        raise failed(f"{what}: {error}") from error
