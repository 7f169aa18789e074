"""Baseline: adopt a database whose schema was created by other means. Writes the ledger; runs no migration.

The live schema is compared with the schema that the bundle creates in a scratch database on the same
server. If the two differ, nothing is written unless the user accepts the differences explicitly.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from mosaic_gateway.errors import MigrationError, RefusedError
from mosaic_gateway.hint import command
from mosaic_gateway.migrations import ledger, progress, record_tables
from mosaic_gateway.migrations.advisory_lock import DEFAULT_LOCK_TIMEOUT
from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.matching import match
from mosaic_gateway.migrations.pooler import pooler_aware_lock
from mosaic_gateway.migrations.runner import migrate, read_state
from mosaic_gateway.migrations.schema_fingerprint import differences, schema_lines
from mosaic_gateway.migrations.shared_session import has_one_session

__all__ = ["Baseline", "BaselineDiffersError", "LedgerNotEmptyError", "ScratchDatabaseError", "baseline", "scratch_on"]

Connection = psycopg.Connection[tuple[object, ...]]
PREFIX = "mosaic_baseline_"
#: In the schema that the comparison leaves out, and none of those that *others* have.
SCRATCH_LEDGER = LedgerName("drizzle", "__baseline")


class LedgerNotEmptyError(RefusedError):
    """The database already has ledger rows of this bundle: migrate it instead."""

    code = "LEDGER_NOT_EMPTY"


class BaselineDiffersError(RefusedError):
    """The live schema differs from the one that the migrations create; ``details`` lists every difference."""

    code = "BASELINE_DIFFERS"


class ScratchDatabaseError(MigrationError):
    """The scratch database could not be created."""

    code = "SCRATCH_DATABASE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Result of a baseline: the ``tags`` now recorded as applied, and the ``differences`` between the schemas."""

    tags: tuple[str, ...]
    differences: tuple[str, ...]
    written: bool


def baseline(
    bundle: Bundle,
    connection: Connection,
    scratch: Callable[[], AbstractContextManager[Connection]],
    *,
    to: str,
    others: Sequence[Bundle] = (),
    accept_differences: bool = False,
    dry_run: bool = False,
    lock_timeout: float = DEFAULT_LOCK_TIMEOUT,
) -> Baseline:
    """Record the migrations up to and including *to* as applied, without running them.

    *scratch* opens an empty database on the same kind of server (see `scratch_on`). Objects that the bundles *others*
    create may be present or absent. Raises `LedgerNotEmptyError`, `BaselineDiffersError`, `ScratchDatabaseError`, and
    the errors of `migrate` in the scratch database.
    """
    part = _up_to(bundle, to)
    with pooler_aware_lock(connection, lock_timeout):
        if rows := read_state(connection, bundle).applied:
            other = len(match(bundle.migrations, rows).other_line_endings)
            note = f" ({other} for these files with other line endings, which count as applied)" if other else ""
            raise LedgerNotEmptyError(
                f"{bundle.ledger} already has rows{note}; a baseline needs an empty ledger",
                hint="Nothing was written. " + command("storage status") + " shows what is applied.",
            )
        with scratch() as empty:
            expected, tolerated = _expected(part, others, empty)
        found = differences(expected, tuple(line for line in schema_lines(connection) if line not in tolerated))
        if found and not (accept_differences or dry_run):
            raise _differs(part, found)
        if not dry_run:
            _write(part, connection)
    tags = tuple(migration.tag for migration in part.migrations)
    return Baseline(tags=tags, differences=found, written=not dry_run)


def _up_to(bundle: Bundle, tag: str) -> Bundle:
    tags = [migration.tag for migration in bundle.migrations]
    return replace(bundle, migrations=bundle.migrations[: tags.index(tag) + 1])


def _expected(bundle: Bundle, others: Sequence[Bundle], scratch: Connection) -> tuple[tuple[str, ...], set[str]]:
    """Return the schema lines of *bundle*, and the additional lines that *others* create."""
    migrate(replace(bundle, ledger=SCRATCH_LEDGER), scratch, alone=True)
    expected = schema_lines(scratch)
    for other in others:
        migrate(other, scratch, alone=True)
    return expected, set(schema_lines(scratch)) - set(expected)


@contextmanager
def scratch_on(connection: Connection, connect: Callable[[str], Connection]) -> Iterator[Connection]:
    """Yield an empty database on the server of *connection*, dropped after the block; *connect* opens it by name.

    Raises `ScratchDatabaseError`.
    """
    if has_one_session(connection):  # PGlite ignores the database name and always opens its only database
        raise ScratchDatabaseError(
            "PGlite has only one database: no scratch database can be created on this server",
            hint="Nothing was written. Run the baseline on the home itself, without --database-url.",
        )
    with _scratch(connection) as name, closing(connect(name)) as opened:
        yield opened


@contextmanager
def _scratch(connection: Connection) -> Iterator[str]:
    name = PREFIX + secrets.token_hex(6)
    identifier = sql.Identifier(name)
    try:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(identifier))
    except psycopg.Error as error:
        raise ScratchDatabaseError(
            f"the scratch database for the comparison could not be created: {str(error).strip()}",
            hint="Nothing was written. Grant the database user CREATEDB for the duration of the baseline.",
        ) from error
    try:
        yield name
    finally:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


def _write(bundle: Bundle, connection: Connection) -> None:
    with connection.transaction():
        record_tables.create_tables(connection, bundle.ledger, bundle.migrations)
        record = ledger.recorder(connection, bundle.ledger)
        for migration in bundle.migrations:
            progress.lock_row(connection, bundle.ledger, migration)  # its digests identify an edited statement later
            connection.execute(record(migration).encode())


def _differs(bundle: Bundle, found: tuple[str, ...]) -> BaselineDiffersError:
    listed = "".join(f"\n  {line}" for line in found)
    return BaselineDiffersError(
        f"the schema of the database differs from the schema at {bundle.migrations[-1].tag} "
        f"(-: missing in the database, +: only in the database), {len(found)} difference(s):{listed}",
        hint="Nothing was written. Choose another --to, change the schema, "
        "or accept the differences with --accept-differences.",
        details={"differences": list(found)},
    )
