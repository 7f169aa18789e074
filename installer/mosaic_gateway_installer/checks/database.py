"""What is in the database: reachable, migrated, as the migrations made it, its indexes valid; the set-up link."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from mosaic_gateway import __version__
from mosaic_gateway.auth import accounts
from mosaic_gateway.auth.errors import SchemaMissingError
from mosaic_gateway.auth.links import setup_url
from mosaic_gateway.engines.base import EngineError
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.requirements import version_text
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway.database_access import running_database
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.migrations.model import PlannedMigration
from mosaic_gateway.migrations.runner import read_plan
from mosaic_gateway.migrations.schema_fingerprint import schema_lines
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.installed_target import Installation
from mosaic_gateway_installer.checks.schema_snapshot import read_schema_snapshot
from mosaic_gateway_installer.checks.versions import check_minor

__all__ = ["CHECKS"]

SKEW = 60.0  # seconds that two clocks may differ
SHOWN = 5  # lines in a message; the details have all
#: What REINDEX CONCURRENTLY leaves when it is cut off: the index of that name without the ending is the real one.
TRANSIENT = re.compile(r".*_cc(new|old)\d*")
#: Invalid indexes, without those that are being built just now.
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


class UpgradeNeededError(AdviceError):
    """The installation is of an older version than this program, and well with it."""

    code = "UPGRADE_NEEDED"


class HalfAppliedError(PreflightError):
    """A migration was begun and not finished."""

    code = "SCHEMA_HALF_APPLIED"


class SchemaDriftError(PreflightError):
    """The ledger says that all is applied, but objects are missing or were changed by hand."""

    code = "SCHEMA_DRIFT"


class InvalidIndexError(PreflightError):
    """An index is there, kept up to date perhaps, and used by no query."""

    code = "INDEX_INVALID"


class SetupLinkError(PreflightError):
    """There is no admin yet, and no link that still works."""

    code = "SETUP_LINK_EXPIRED"


class ClockSkewError(AdviceError):
    """The database server's clock and this machine's differ."""

    code = "CLOCK_SKEW"


@contextmanager
def _session(installation: Installation) -> Iterator[psycopg.Connection[TupleRow]]:
    """Connect to the running database, whose refusals become findings; nothing is started."""
    try:
        with connect(_conninfo(installation), application_name="mosaic-gateway doctor") as connection:
            yield connection
    except psycopg.Error as error:
        text = error.diag.message_primary or type(error).__name__  # libpq's own text may name more than it should
        raise EngineError(
            f"the database cannot be asked: {text}", hint="Look at its log: mosaic-gateway logs"
        ) from None


def _conninfo(installation: Installation) -> str:
    if installation.config.engine is EngineName.SERVER:
        return engine_for(installation.config).conninfo()
    conninfo = running_database(installation.home, installation.config.engine)
    if conninfo is None:
        raise NotCheckedError("not checked: the database does not run")
    return conninfo


def _database(installation: Installation) -> str:
    if installation.config.engine is EngineName.SERVER:
        engine = engine_for(installation.config)
        engine.start()
        engine.verify()
    with _session(installation) as connection:
        before = datetime.now(UTC)
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        after = datetime.now(UTC)
        if installation.config.engine is EngineName.SERVER and row is not None:
            _check_skew(row[0], before, after)
            version = version_text(connection.info.server_version)
            return f"it answers; {check_minor(version, known=(), remedy='whoever runs the server')}"
    return "it answers"


def _check_skew(theirs: datetime, before: datetime, after: datetime) -> None:
    seconds = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0)
    if seconds > SKEW:
        raise ClockSkewError(
            f"the clocks of this machine and of the database server differ by {seconds:.0f} s",
            hint="Set both (timedatectl set-ntp true): sessions and links end too early or too late.",
        )


def _schema(installation: Installation) -> str:
    with _session(installation) as connection:
        pending = [planned for bundle in load_bundles() for planned in read_plan(connection, bundle).pending]
    begun = [planned for planned in pending if _is_begun(planned)]
    if begun:
        raise HalfAppliedError(
            "; ".join(map(_how_far, begun)),
            hint="It can go on where it stopped: mosaic-gateway storage migrate (storage status says why it stopped).",
            details={"tags": [planned.migration.tag for planned in begun]},
        )
    if pending:
        tags = [planned.migration.tag for planned in pending]
        if installation.receipt.version != __version__:  # to migrate it now would leave its program without its schema
            raise UpgradeNeededError(
                f"version {installation.receipt.version} is installed; this is {__version__}, with {len(tags)} more "
                "migration(s)",
                hint="Upgrade it, with a backup and a way back: mosaic-gateway upgrade",
                details={"tags": tags},
            )
        raise SchemaPendingError(
            f"pending: {', '.join(tags)}", hint="Run mosaic-gateway storage migrate.", details={"tags": tags}
        )
    return "every migration is applied"


def _is_begun(planned: PlannedMigration) -> bool:
    return planned.start > 0 or (planned.progress is not None and planned.progress.intent is not None)


def _how_far(planned: PlannedMigration) -> str:
    total = len(planned.migration.statements)
    return f"{planned.migration.tag} stopped after {planned.start} of {total} statements"


def _objects(installation: Installation) -> str:
    snapshot = read_schema_snapshot()
    if snapshot is None or snapshot.digest != schema_digest(load_bundles()):
        raise NotCheckedError("not checked: this package does not know how its schema looks in the end")
    with _session(installation) as connection:
        if any(read_plan(connection, bundle).pending for bundle in load_bundles()):
            raise NotCheckedError("not checked: migrations are pending")
        there = set(schema_lines(connection))
    # What a person has added is that person's business. An invalid index has a check of its own.
    missing = [line for line in snapshot.lines if line not in there and f"{line} INVALID" not in there]
    if missing:
        shown = "".join(f"\n{'':<25}- {line}" for line in missing[:SHOWN])
        raise SchemaDriftError(
            f"{len(missing)} object(s) are not as the migrations made them; missing or changed:{shown}",
            hint="Restore them as shown, or restore a backup. Changes of the schema belong into migrations.",
            details={"missing": missing},
        )
    return f"all {len(snapshot.lines)} objects are as the migrations made them"


def _indexes(installation: Installation) -> str:
    with _session(installation) as connection:
        found = _invalid(connection)
    if found:
        names = ", ".join(f"{schema}.{index} (on {table})" for schema, index, table in found)
        first = sql.Identifier(*found[0][:2]).as_string()
        raise InvalidIndexError(
            f"invalid: {names}",
            hint=f"mosaic-gateway doctor --fix, or in SQL: REINDEX INDEX CONCURRENTLY {first}",
            details={"indexes": [f"{schema}.{index}" for schema, index, _ in found]},
        )
    return "every index is valid"


def _invalid(connection: psycopg.Connection[TupleRow]) -> Sequence[tuple[str, str, str]]:
    return [(str(row[0]), str(row[1]), str(row[2])) for row in connection.execute(INVALID)]


def _repair_indexes(installation: Installation, _fault: MosaicError) -> str:
    """Build them anew beside reads and writes; drop what an earlier such building left."""
    done = []
    with _session(installation) as connection:
        for schema, index, _ in _invalid(connection):
            name = sql.Identifier(schema, index)
            if TRANSIENT.fullmatch(index):
                connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(name))
                done.append(f"dropped {index}")
            else:
                connection.execute(sql.SQL("REINDEX INDEX CONCURRENTLY {}").format(name))
                done.append(f"rebuilt {index}")
    return "; ".join(done)


def _link(installation: Installation) -> str:
    conninfo = _conninfo(installation)
    try:
        if not accounts.needs_setup(conninfo):
            return "there is an admin"
    except SchemaMissingError:
        raise NotCheckedError("not checked: the schema is not there") from None
    if accounts.has_setup_token(conninfo):
        return "no admin yet; the link from before still works"
    raise SetupLinkError(
        "there is no admin yet, and no link to make one: it was used or has expired",
        hint="Print a new one: mosaic-gateway bootstrap link",
    )


def _issue_link(installation: Installation, _fault: MosaicError) -> str:
    token = accounts.issue_setup_token(_conninfo(installation))
    return f"a new link, which works once, within 24 hours: {setup_url(installation.config.url, token)}"


CHECKS: tuple[Check[Installation], ...] = (
    Check(id="database", run=_database),
    Check(id="schema", run=_schema),
    Check(id="objects", run=_objects),
    Check(id="indexes", run=_indexes, fix=_repair_indexes),
    Check(id="set-up link", run=_link, fix=_issue_link),
)
