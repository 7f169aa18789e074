"""Checks of the database: connection, pending migrations, schema objects, index validity, set-up link."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from mosaic_gateway import __version__, engines
from mosaic_gateway.auth import SchemaMissingError, accounts, setup_url
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway import load_bundles, running_database, schema_digest
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName
from mosaic_gateway.migrations import PlannedMigration, read_plan, schema_lines
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.schema_snapshot import read_schema_snapshot
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]

MAX_CLOCK_SKEW = 60.0  # seconds
SHOWN = 5  # lines in a message; the details have all
#: Names of the transient indexes that an interrupted REINDEX CONCURRENTLY leaves beside the original index.
TRANSIENT = re.compile(r".*_cc(new|old)\d*")
#: Invalid indexes, except those that are being built.
INVALID = """
    SELECT n.nspname, c.relname, t.relname FROM pg_catalog.pg_index i
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_class t ON t.oid = i.indrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i' AND n.nspname NOT LIKE 'pg\\_%'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
    ORDER BY 1, 2
"""


class SchemaPendingError(PreflightError):
    """Migrations are pending."""

    code = "SCHEMA_PENDING"


class OlderVersionError(AdviceError):
    """The installation is of an older version than this program, and consistent."""

    code = "OLDER_VERSION"


class HalfAppliedError(PreflightError):
    """A migration is partly applied."""

    code = "SCHEMA_HALF_APPLIED"


class SchemaDriftError(PreflightError):
    """Every migration is recorded as applied, but objects are missing or were changed by hand."""

    code = "SCHEMA_DRIFT"


class InvalidIndexError(PreflightError):
    """An index is invalid (pg_index.indisvalid), so no query uses it."""

    code = "INDEX_INVALID"


class SetupLinkError(PreflightError):
    """There is no admin yet, and no valid set-up link."""

    code = "SETUP_LINK_EXPIRED"


class ClockSkewError(AdviceError):
    """The database server's clock and this machine's differ."""

    code = "CLOCK_SKEW"


@contextmanager
def _session(target: Target) -> Iterator[psycopg.Connection[TupleRow]]:
    """Connect to the running database; starts nothing. Raises EngineError, `NotCheckedError`."""
    try:
        with engines.connect(_conninfo(target), application_name="mosaic-gateway doctor") as connection:
            yield connection
    except psycopg.Error as error:
        text = error.diag.message_primary or type(error).__name__  # libpq's own text may contain the conninfo
        raise engines.EngineError(
            f"the database query failed: {text}", hint="See its log: " + command("logs")
        ) from None


def _conninfo(target: Target) -> str:
    if target.config.engine is EngineName.SERVER:
        return engines.engine_for(target.config).conninfo()
    conninfo = running_database(target.home, target.config.engine)
    if conninfo is None:
        raise NotCheckedError("not checked: the database is not running")
    return conninfo


def _database(target: Target) -> str:
    if target.config.engine is EngineName.SERVER:
        engine = engines.engine_for(target.config)
        engine.start()
        engine.verify()
    with _session(target) as connection:
        before = datetime.now(UTC)
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        after = datetime.now(UTC)
        if target.config.engine is EngineName.SERVER and row is not None:
            _check_skew(row[0], before, after)
            return f"it answers; PostgreSQL {engines.version_text(connection.info.server_version)}"
    return "it answers"


def _check_skew(server_time: datetime, before: datetime, after: datetime) -> None:
    seconds = max((before - server_time).total_seconds(), (server_time - after).total_seconds(), 0)
    if seconds > MAX_CLOCK_SKEW:
        raise ClockSkewError(
            f"the clocks of this machine and of the database server differ by {seconds:.0f} s",
            hint="Set both (timedatectl set-ntp true); until then sessions and links expire too early or too late.",
        )


def _schema(target: Target) -> str:
    with _session(target) as connection:
        pending = [planned for bundle in load_bundles() for planned in read_plan(connection, bundle).pending]
    partial = [planned for planned in pending if _is_partly_applied(planned)]
    if partial:
        raise HalfAppliedError(
            "; ".join(map(_progress_text, partial)),
            hint="Resume it: "
            + command("storage migrate")
            + "; "
            + command("storage status")
            + " shows why it stopped.",
            details={"tags": [planned.migration.tag for planned in partial]},
        )
    if pending:
        tags = [planned.migration.tag for planned in pending]
        if target.installed.version != __version__:  # migrating now would break the installed version
            raise OlderVersionError(
                f"version {target.installed.version} is installed; this is {__version__}, with {len(tags)} more "
                "migration(s)",
                hint="Upgrade the installation, with a backup and rollback: " + command("upgrade"),
                details={"tags": tags},
            )
        raise SchemaPendingError(
            f"pending: {', '.join(tags)}", hint="Run " + command("storage migrate") + ".", details={"tags": tags}
        )
    return "every migration is applied"


def _is_partly_applied(planned: PlannedMigration) -> bool:
    return planned.start > 0 or (planned.progress is not None and planned.progress.intent is not None)


def _progress_text(planned: PlannedMigration) -> str:
    total = len(planned.migration.statements)
    return f"{planned.migration.tag} stopped after {planned.start} of {total} statements"


def _objects(target: Target) -> str:
    snapshot = read_schema_snapshot()
    if snapshot is None or snapshot.digest != schema_digest(load_bundles()):
        raise NotCheckedError("not checked: this package has no schema snapshot for its migrations")
    with _session(target) as connection:
        if any(read_plan(connection, bundle).pending for bundle in load_bundles()):
            raise NotCheckedError("not checked: migrations are pending")
        present = set(schema_lines(connection))
    # Objects that were added by hand are not reported. Invalid indexes have a check of their own.
    missing = [line for line in snapshot.lines if line not in present and f"{line} INVALID" not in present]
    if missing:
        shown = "".join(f"\n{'':<25}- {line}" for line in missing[:SHOWN])
        raise SchemaDriftError(
            f"{len(missing)} object(s) that the migrations created are missing or changed:{shown}",
            hint="Restore them as shown, or restore a backup. Change the schema only by migrations.",
            details={"missing": missing},
        )
    return f"all {len(snapshot.lines)} objects are as the migrations created them"


def _indexes(target: Target) -> str:
    with _session(target) as connection:
        invalid = _invalid_indexes(connection)
    if invalid:
        names = ", ".join(f"{schema}.{index} (on {table})" for schema, index, table in invalid)
        first = sql.Identifier(*invalid[0][:2]).as_string()
        raise InvalidIndexError(
            f"invalid: {names}",
            hint="Rebuild: " + command("doctor", "--fix") + f", or in SQL: REINDEX INDEX CONCURRENTLY {first}",
            details={"indexes": [f"{schema}.{index}" for schema, index, _ in invalid]},
        )
    return "every index is valid"


def _invalid_indexes(connection: psycopg.Connection[TupleRow]) -> Sequence[tuple[str, str, str]]:
    return [(str(row[0]), str(row[1]), str(row[2])) for row in connection.execute(INVALID)]


def _repair_indexes(target: Target, _fault: MosaicError) -> str:
    """Rebuild invalid indexes concurrently; drop those that an interrupted REINDEX CONCURRENTLY left."""
    actions = []
    with _session(target) as connection:
        for schema, index, _ in _invalid_indexes(connection):
            name = sql.Identifier(schema, index)
            if TRANSIENT.fullmatch(index):
                connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(name))
                actions.append(f"dropped {index}")
            else:
                connection.execute(sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(name))
                actions.append(f"rebuilt {index}")
    return "; ".join(actions)


def _link(target: Target) -> str:
    conninfo = _conninfo(target)
    try:
        if not accounts.needs_setup(conninfo):
            return "there is an admin"
    except SchemaMissingError:
        raise NotCheckedError("not checked: the schema does not exist") from None
    if accounts.has_setup_token(conninfo):
        return "there is no admin yet; the set-up link is valid"
    raise SetupLinkError(
        "there is no admin yet, and the set-up link was used or has expired",
        hint="Print a new link: " + command("bootstrap link"),
    )


def _issue_link(target: Target, _fault: MosaicError) -> str:
    token = accounts.issue_setup_token(_conninfo(target))
    return f"a new link, valid once, for 24 hours: {setup_url(target.config.url, token)}"


CHECKS: tuple[Check, ...] = (
    Check(id="database", run=_database),
    Check(id="schema", run=_schema),
    Check(id="objects", run=_objects),
    Check(id="indexes", run=_indexes, fix=_repair_indexes),
    Check(id="set-up link", run=_link, fix=_issue_link),
)
