"""The overview of the console: what is known of database, schema, home and sign-ins, and what of it needs attention."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql

from mosaic_gateway.auth.activity import read_sign_ins
from mosaic_gateway.gateway.home_status import HomeStatus
from mosaic_gateway.hint import Hint, command
from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.matching import match
from mosaic_gateway.migrations.model import AppliedRow

__all__ = ["DatabaseFacts", "Program", "notes", "overview_json", "read_database_facts"]

DAYS = 30  # of the plot of sign-ins
OLD_BACKUP = 7 * 86_400  # seconds
LITTLE_DISK = 1024**3  # bytes
FACTS: LiteralString = """
SELECT current_setting('server_version'), pg_database_size(current_database()),
    (SELECT count(DISTINCT coalesce(client_addr::text, ''))::int FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'mosaic-gateway')
"""
LEDGER: LiteralString = "SELECT hash, created_at, to_jsonb(entry) ->> 'name' FROM {} AS entry ORDER BY id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The running program. ``started`` is in seconds of the monotonic clock."""

    version: str
    instance_id: str | None
    engine: str
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What the database reports: ``size`` in bytes, ``gateways`` connected from distinct addresses."""

    server_version: str
    size: int
    gateways: int
    applied: int
    migrations: int
    sign_ins: Sequence[Mapping[str, Any]]
    sign_ins_complete: bool


async def read_database_facts(connection: AsyncConnection, bundles: Sequence[Bundle]) -> DatabaseFacts:
    """Query the facts; the cost does not depend on the number of users or sessions."""
    row = await (await connection.execute(FACTS)).fetchone()
    if row is None:
        raise LookupError(FACTS)
    applied = [await _applied(connection, bundle) for bundle in bundles]
    sign_ins, complete = await read_sign_ins(connection, today=datetime.now(UTC).date(), days=DAYS)
    return DatabaseFacts(
        server_version=row[0].split()[0],
        size=row[1],
        gateways=max(row[2], 1),
        applied=sum(applied),
        migrations=sum(len(bundle.migrations) for bundle in bundles),
        sign_ins=sign_ins,
        sign_ins_complete=complete,
    )


async def _applied(connection: AsyncConnection, bundle: Bundle) -> int:
    found = await (await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (str(bundle.ledger),))).fetchone()
    if not (found and found[0]):
        return 0
    cursor = await connection.execute(sql.SQL(LEDGER).format(_table(bundle.ledger)))
    rows = [AppliedRow(hash=row[0], when=row[1], name=row[2]) for row in await cursor.fetchall()]
    return len(match(bundle.migrations, rows).applied)


def _table(ledger: LedgerName) -> sql.Identifier:
    return sql.Identifier(ledger.schema, ledger.table)


def overview_json(program: Program, facts: DatabaseFacts, home: HomeStatus | None, now: datetime) -> dict[str, Any]:
    """Return the overview; *now* is UTC with zone. What is not known is null."""
    return {
        "version": program.version,
        "instanceId": program.instance_id,
        "engine": program.engine,
        "uptime": round(time.monotonic() - program.started),
        "database": {"version": facts.server_version, "size": facts.size},
        "schema": {"applied": facts.applied, "of": facts.migrations},
        "gateways": facts.gateways,
        "signIns": {"days": facts.sign_ins, "complete": facts.sign_ins_complete},
        "backup": _backup(home),
        "doctor": _doctor(home),
        "disk": None if home is None or home.disk_free is None else {"free": home.disk_free, "of": home.disk_total},
        "notes": [] if home is None else notes(facts, home, now),
    }


def notes(facts: DatabaseFacts, home: HomeStatus, now: datetime) -> list[dict[str, str]]:
    """Return what needs attention, each with the command that helps."""
    found: list[tuple[str, Hint]] = []
    if facts.applied < facts.migrations:
        missing = facts.migrations - facts.applied
        found.append((f"{missing} migrations are not applied.", command("storage migrate")))
    if home.backup is None:
        found.append(("There is no backup in the home directory.", command("backup create", "--verify")))
    elif (now - datetime.fromisoformat(home.backup.created_at)).total_seconds() > OLD_BACKUP:
        found.append(("The last backup is more than a week old.", command("backup create", "--verify")))
    if home.disk_free is not None and home.disk_free < LITTLE_DISK:
        found.append(("Less than 1 GB of disk space is free.", command("backup prune", "--keep", "3")))
    faults = [] if home.doctor is None else [one for one in home.doctor.findings if one["level"] == "fault"]
    if faults:
        found.append(
            (
                f"The last run of doctor found {len(faults)} {'fault' if len(faults) == 1 else 'faults'}.",
                command("doctor"),
            )
        )
    return [{"text": text, "command": str(help_)} for text, help_ in found]


def _backup(home: HomeStatus | None) -> dict[str, Any] | None:
    if home is None or home.backup is None:
        return None
    backup = home.backup
    return {
        "name": backup.name,
        "kind": backup.kind,
        "createdAt": backup.created_at,
        "verifiedAt": backup.verified_at,
    }


def _doctor(home: HomeStatus | None) -> dict[str, Any] | None:
    if home is None or home.doctor is None:
        return None
    return {"ranAt": home.doctor.ran_at, "findings": list(home.doctor.findings)}
