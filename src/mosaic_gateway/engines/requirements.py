"""Server requirements: PostgreSQL 15, write access, and pgvector or the privilege to create it."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.rows import TupleRow

from mosaic_gateway.engines.base import (
    OLDEST_MAJOR,
    ExtensionRightsError,
    ServerReadOnlyError,
    ServerTooOldError,
    VectorMissingError,
)

__all__ = ["ServerFacts", "check_server", "check_version", "version_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Versions found on a server that meets the requirements."""

    server_version: str
    vector_version: str
    vector_installed: bool


def check_server(connection: psycopg.Connection[TupleRow], *, try_extension: bool = True) -> ServerFacts:
    """Return the facts of *connection*'s database; changes are rolled back.

    Without *try_extension* the privilege to create pgvector is not tested.
    Raises `ServerTooOldError`, `ServerReadOnlyError`, `VectorMissingError`, `ExtensionRightsError`.
    """
    number = connection.info.server_version
    check_version(number)
    _check_writable(connection)
    installed, available = _vector_versions(connection)
    if installed is None:
        if available is None:
            raise _vector_missing(f"The server (PostgreSQL {version_text(number)}) does not offer pgvector")
        if try_extension:
            _try_extension(connection)
    return ServerFacts(
        server_version=version_text(number),
        vector_version=installed or available or "",
        vector_installed=installed is not None,
    )


def check_version(number: int) -> None:
    """Raise `ServerTooOldError` if *number* (``server_version_num``) is below the oldest supported major version."""
    if number // 10000 < OLDEST_MAJOR:
        raise ServerTooOldError(
            f"The server is PostgreSQL {version_text(number)}; at least {OLDEST_MAJOR} is needed",
            hint=f"Upgrade the server to PostgreSQL {OLDEST_MAJOR} or later, or give another --database-url.",
            details={"server_version_num": number},
        )


def version_text(number: int) -> str:
    """Return *number* (``server_version_num``) in its usual form: 180006 → 18.6, 90624 → 9.6.24."""
    if number < 100000:  # noqa: PLR2004 - before 10 a version had three parts
        return f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    return f"{number // 10000}.{number % 10000}"


def _check_writable(connection: psycopg.Connection[TupleRow]) -> None:
    row = connection.execute(
        "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on'"
    ).fetchone()
    if row is None or not any(row):
        return
    why = "it is a standby" if row[0] else "default_transaction_read_only is on"
    raise ServerReadOnlyError(
        f"The server does not accept writes: {why}",
        hint="Give the --database-url of the primary (with several hosts: target_session_attrs=read-write).",
    )


def _vector_versions(connection: psycopg.Connection[TupleRow]) -> tuple[str | None, str | None]:
    row = connection.execute(
        "SELECT (SELECT extversion FROM pg_extension WHERE extname = 'vector'),"
        " (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')"
    ).fetchone()
    return (row[0], row[1]) if row is not None else (None, None)


def _try_extension(connection: psycopg.Connection[TupleRow]) -> None:
    """Create the extension and roll back: the only reliable test of the privilege on managed servers."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.errors.UndefinedFile as error:
        raise _vector_missing(f"pgvector is listed, but its library is missing: {_primary(error)}") from error
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise ExtensionRightsError(
            f"The role {connection.info.user!r} may not create pgvector in the database"
            f" {connection.info.dbname!r}: {_primary(error)}",
            hint="Have an administrator run CREATE EXTENSION vector in that database."
            f" The server's hint: {error.diag.message_hint or 'none'}",
            details={"sqlstate": error.sqlstate},
        ) from error


def _primary(error: psycopg.Error) -> str:
    return error.diag.message_primary or type(error).__name__


def _vector_missing(message: str) -> VectorMissingError:
    return VectorMissingError(
        message, hint="Install pgvector for this server (Debian: postgresql-<version>-pgvector), then try again."
    )
