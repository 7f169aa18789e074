"""Taking over a database that was made by other means: the ledger is written, nothing is run.

The live schema is compared with the one that the bundle makes, which is made in a scratch database on
the same server. Where the two differ, nothing is written unless a person has seen the difference and
said so.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from mosaic_gateway.errors import MigrationError, RefusedError
from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.lock import DEFAULT_LOCK_TIMEOUT
from mosaic_gateway.migrations.pooler import lock_by_any_way
from mosaic_gateway.migrations.runner import migrate, read_state
from mosaic_gateway.migrations.schema_fingerprint import differences, schema_lines
from mosaic_gateway.migrations.shared_session import has_one_session

__all__ = ["Baseline", "BaselineDiffersError", "LedgerNotEmptyError", "ScratchDatabaseError", "baseline", "scratch_on"]

Connection = psycopg.Connection[tuple[object, ...]]
PREFIX = "mosaic_baseline_"


class LedgerNotEmptyError(RefusedError):
    """The database has a ledger of this bundle already: migrate it instead."""

    code = "LEDGER_NOT_EMPTY"


class BaselineDiffersError(RefusedError):
    """The live schema is not the one that the migrations make; ``details`` lists every difference."""

    code = "BASELINE_DIFFERS"


class ScratchDatabaseError(MigrationError):
    """The scratch database could not be made."""

    code = "SCRATCH_DATABASE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What a baseline found and did: the ``tags`` now held for applied, and the ``differences`` that were accepted."""

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
    """Hold the migrations up to and with *to* for applied, without running them.

    *scratch* gives an empty database of the same kind of server (see `scratch_on`); what the bundles *others* make
    may be there or not. Raises `LedgerNotEmptyError`,
    `BaselineDiffersError`, `ScratchDatabaseError`, and what `migrate` raises in the scratch database.
    """
    part = _up_to(bundle, to)
    with lock_by_any_way(connection, lock_timeout):
        if read_state(connection, bundle).applied:
            raise LedgerNotEmptyError(
                f"{bundle.ledger.schema}.{bundle.ledger.table} has rows already; a baseline is for a database without",
                hint="Nothing was written. mosaic-gateway storage status shows what is applied.",
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
    """Return the lines of *bundle*'s schema, and the further lines that *others* make."""
    migrate(bundle, scratch, alone=True)
    expected = schema_lines(scratch)
    for other in others:
        migrate(other, scratch, alone=True)
    return expected, set(schema_lines(scratch)) - set(expected)


@contextmanager
def scratch_on(connection: Connection, connect: Callable[[str], Connection]) -> Iterator[Connection]:
    """Give an empty database on the server of *connection*, dropped after the block; *connect* opens one by name.

    Raises `ScratchDatabaseError`.
    """
    if has_one_session(connection):  # whatever database is asked for, it gives the one that it has
        raise ScratchDatabaseError(
            "PGlite has only one database: there is no other to compare with on this server",
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
            f"a scratch database to compare with could not be made: {str(error).strip()}",
            hint="Nothing was written. Let the database user create databases for the time of the baseline (CREATEDB).",
        ) from error
    try:
        yield name
    finally:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(identifier))


def _write(bundle: Bundle, connection: Connection) -> None:
    with connection.transaction():
        ledger.create(connection, bundle.ledger)
        progress.create(connection)
        record = ledger.recorder(connection, bundle.ledger)
        for migration in bundle.migrations:
            progress.hold(connection, bundle.ledger, migration)  # by which drift is told statement by statement
            connection.execute(record(migration).encode())


def _differs(bundle: Bundle, found: tuple[str, ...]) -> BaselineDiffersError:
    listed = "".join(f"\n  {line}" for line in found)
    return BaselineDiffersError(
        f"the database is not what {bundle.migrations[-1].tag} leaves "
        f"(- is missing here, + is only here), {len(found)} difference(s):{listed}",
        hint="Nothing was written. Choose another --to, bring the schema in line, "
        "or accept the differences with --accept-differences.",
        details={"differences": list(found)},
    )
