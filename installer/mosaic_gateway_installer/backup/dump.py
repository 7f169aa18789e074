"""Dump and restore of a server's database with ``pg_dump`` and ``pg_restore``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow

from mosaic_gateway import fs
from mosaic_gateway.config import Config
from mosaic_gateway.engines import connect, engine_for, postgres
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.installation import Home
from mosaic_gateway.process import CommandFailedError, process_environment, run
from mosaic_gateway_installer.backup.online_copy import BackupFailedError, OnlineFacts
from mosaic_gateway_installer.backup.row_checksums import objects_hash, table_rows
from mosaic_gateway_installer.program_copy.home_programs import programs_of

__all__ = ["DumpClientTooOldError", "dump_database", "restore_dump"]

Connection = psycopg.Connection[TupleRow]
APPLICATION = "mosaic-gateway backup"
LIMIT = 24 * 3600.0  # seconds
SERVICE = "mosaic"


class DumpClientTooOldError(PreflightError):
    """The server is newer than the available ``pg_dump``, which refuses such servers."""

    code = "DUMP_CLIENT_TOO_OLD"


class RestoreFailedError(MosaicError):
    """``pg_restore`` failed."""

    code = "RESTORE_FAILED"


def dump_database(config: Config, target: Path, *, scratch: Path) -> OnlineFacts:
    """Dump the server's database of *config* into the new file *target*, with a configured ``pg_dump`` or the wheel's.

    *scratch* is a temporary directory for programs. Raises `DumpClientTooOldError`, `BackupFailedError`, OSError.
    """
    if config.postgres_bin is not None:
        runtime = postgres.find_runtime(config.home, config.postgres_bin)
    else:
        runtime = programs_of(config.home).tools(Home(scratch))
    facts = _dump_server(engine_for(config).conninfo(), target, runtime)
    fs.remove_tree(scratch)
    return facts


def _dump_server(conninfo: str, target: Path, runtime: postgres.Runtime) -> OnlineFacts:
    """Dump the database of *conninfo* into *target*; rows are counted in the dump's own snapshot."""
    try:
        with closing(connect(conninfo, application_name=APPLICATION)) as session:
            version = _check_version(session, runtime)
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = _value(session, "SELECT pg_export_snapshot()")
            with _service(conninfo, target.parent) as environ:
                words: list[str | Path] = [
                    "-Fc",
                    "--no-password",
                    "--snapshot",
                    snapshot,
                    "-f",
                    target,
                    "-d",
                    f"service={SERVICE}",
                ]
                run([runtime.bindir / "pg_dump", *words], timeout=LIMIT, env=environ)
            _flush(target)
            return OnlineFacts(tables=table_rows(session), objects=objects_hash(session), server_version=version)
    except psycopg.Error as error:
        # libpq's connection errors name host and role, never the password.
        raise BackupFailedError(f"The database could not be dumped: {' '.join(str(error).split())}") from None
    except CommandFailedError as error:
        raise BackupFailedError(f"The dump failed: {error.message}", details=error.details) from error


def restore_dump(dump: Path, conninfo: str, runtime: postgres.Runtime, *, scratch: Path) -> None:
    """Restore *dump* into the empty database of *conninfo*, in one transaction.

    *scratch* is a private directory for the connection parameters. Raises `RestoreFailedError`, OSError.
    """
    words = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", "--no-password"]
    try:
        with _service(conninfo, scratch) as environ:
            arguments: list[str | Path] = [runtime.bindir / "pg_restore", *words, "-d", f"service={SERVICE}", dump]
            run(arguments, timeout=LIMIT, env=environ)
    except CommandFailedError as error:
        raise RestoreFailedError(f"The dump could not be restored: {error.message}", details=error.details) from error


def _check_version(session: Connection, runtime: postgres.Runtime) -> str:
    number = int(_value(session, "SELECT current_setting('server_version_num')"))
    version = _value(session, "SELECT split_part(current_setting('server_version'), ' ', 1)")
    if number // 10000 > runtime.major:
        raise DumpClientTooOldError(
            f"the server is PostgreSQL {version}; pg_dump {runtime.version} cannot dump it",
            hint=f"Use --postgres-bin DIR with the programs of PostgreSQL {number // 10000} or later.",
        )
    return version


@contextmanager
def _service(conninfo: str, directory: Path) -> Iterator[Mapping[str, str]]:
    """Yield an environment in which libpq's service ``mosaic`` is the database, so that no argument has a password."""
    lines = [f"{name}={value}\n" for name, value in conninfo_to_dict(conninfo).items() if value is not None]
    with fs.temporary(directory / "service") as file:
        fs.write_file(file, f"[{SERVICE}]\n{''.join(lines)}")
        yield {**process_environment(), "PGSERVICEFILE": str(file)}


def _value(session: Connection, query: str) -> str:
    row = session.execute(query.encode()).fetchone()
    return str(row[0]) if row is not None else ""


def _flush(path: Path) -> None:
    with fs.open_regular(path) as stream:
        os.fsync(stream.fileno())
