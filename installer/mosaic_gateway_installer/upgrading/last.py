"""The last upgrade, as far as somebody may want to go back from it, and what has been written since.

What was written is told by PostgreSQL's own counters of rows inserted, changed and deleted, table by table: reading
them takes milliseconds, where counting and hashing rows would lengthen every upgrade's downtime. They survive an
orderly stop and not a crash; then nobody can say what was written, and that is what is said. What every start of
a gateway writes about itself does not count.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg.rows import TupleRow

from mosaic_gateway.config import Home
from mosaic_gateway.engines.session import connect
from mosaic_gateway.files import remove_file, write_file
from mosaic_gateway.process.account import Account, assume

__all__ = [
    "Counters",
    "LastUpgrade",
    "forget_last",
    "last_file",
    "losses",
    "read_counters",
    "read_last",
    "write_last",
]

APPLICATION = "mosaic-gateway upgrade"
DOCUMENTS = "public.storage_documents"
COUNTERS: LiteralString = """
    SELECT schemaname || '.' || relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_catalog.pg_stat_user_tables ORDER BY 1
"""
#: A mark that only a crash, or somebody's reset, changes.
EPOCH: LiteralString = (
    "SELECT coalesce(stats_reset::text, '-') FROM pg_catalog.pg_stat_database WHERE datname = current_database()"
)
#: What the gateway says of itself at each start, among the documents.
OTHERS_SINCE: LiteralString = """
    SELECT count(*) FROM public.storage_documents
    WHERE updated_at > %s::timestamp AND NOT (collection = 'gateway' AND key = 'instance')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What had been written by *at* (UTC without zone): table → rows inserted, changed, deleted since *epoch*."""

    at: str
    epoch: str
    tables: Mapping[str, tuple[int, int, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LastUpgrade:
    """An upgrade that is complete: from which version and program, to which, and with which backup.

    ``counters`` are of the moment before anybody used the upgraded database, None where they could not be read.
    """

    source_version: str
    source_program: str | None
    source_schema: str | None
    target_version: str
    backup: str | None
    counters: Counters | None = None


def last_file(home: Home) -> Path:
    """Return where *home* says what its last upgrade was."""
    return home.path / "last-upgrade.json"


def read_last(home: Home) -> LastUpgrade | None:
    """Return the last upgrade of *home*, None where there is none to go back from."""
    try:
        value = json.loads(last_file(home).read_bytes())
        counters = value.pop("counters")
        if counters is not None:
            tables = {str(name): (int(i), int(u), int(d)) for name, (i, u, d) in counters["tables"].items()}
            counters = Counters(at=str(counters["at"]), epoch=str(counters["epoch"]), tables=tables)
        return LastUpgrade(**value, counters=counters)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_last(home: Home, last: LastUpgrade, account: Account | None) -> None:
    """Write *last* as *account*. Raises OSError."""
    with assume(account):
        write_file(last_file(home), json.dumps(asdict(last)) + "\n")


def forget_last(home: Home, account: Account | None) -> None:
    """Say that there is nothing to go back from. Raises OSError."""
    with assume(account):
        remove_file(last_file(home))


def read_counters(conninfo: str) -> Counters:
    """Return what has been written to the database so far; every session that wrote has ended. Raises psycopg.Error."""
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        return Counters(
            at=_value(connection, "SELECT (now() AT TIME ZONE 'UTC')::text"),
            epoch=_value(connection, EPOCH),
            tables={str(name): (int(i), int(u), int(d)) for name, i, u, d in connection.execute(COUNTERS)},
        )


def losses(before: Counters | None, conninfo: str) -> tuple[str, ...] | None:
    """Return what has been written since *before*, a phrase for each table; None where nobody can say.

    Every session that wrote has ended. Raises psycopg.Error.
    """
    now = read_counters(conninfo)
    if before is None or before.epoch != now.epoch:
        return None
    told = []
    for table, counts in sorted(now.tables.items()):
        inserted, changed, deleted = (b - a for a, b in zip(before.tables.get(table, (0, 0, 0)), counts, strict=True))
        if min(inserted, changed, deleted) < 0:
            return None
        if table == DOCUMENTS and not deleted:
            inserted, changed = 0, _documents_since(before.at, conninfo)
        what = [f"{n} {verb}" for n, verb in ((inserted, "added"), (changed, "changed"), (deleted, "deleted")) if n]
        if what:
            told.append(f"{table}: rows {', '.join(what)}")
    return (*told, *(f"{table}: dropped" for table in before.tables if table not in now.tables))


def _documents_since(at: str, conninfo: str) -> int:
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        row = connection.execute(OTHERS_SINCE, [at]).fetchone()
        return int(row[0]) if row is not None else 0


def _value(connection: psycopg.Connection[TupleRow], query: LiteralString) -> str:
    row = connection.execute(query).fetchone()
    return str(row[0]) if row is not None else "-"
