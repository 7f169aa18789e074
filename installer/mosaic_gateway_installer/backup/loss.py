"""What a restore would replace (rows that differ in number, people created since), and the question about it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, LiteralString

import click
import psycopg
from psycopg import sql

from mosaic_gateway.cli import ConfirmationMissingError
from mosaic_gateway.engines import connect
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.gateway import running_database
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName, Home, Receipt
from mosaic_gateway_installer.backup.contents import data_of
from mosaic_gateway_installer.backup.manifest import Manifest
from mosaic_gateway_installer.backup.row_checksums import tables_of

__all__ = ["Loss", "RestoreDeclinedError", "confirm", "read_loss"]

PEOPLE: LiteralString = "SELECT email FROM public.users WHERE created_at > %s::timestamp ORDER BY created_at"
SHOWN = 5  # people that a message names


class RestoreDeclinedError(RefusedError):
    """The prompt was not answered with yes."""

    code = "RESTORE_DECLINED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What a home has that the backup does not have.

    ``rows`` maps tables to (rows now, rows in the backup), where these differ; None if the backup does not count rows.
    ``people`` are the addresses of the users created since. Both are None if the database does not run.
    """

    since: str
    rows: Mapping[str, tuple[int, int]] | None
    people: tuple[str, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        rows = {name: {"now": now, "backup": then} for name, (now, then) in (self.rows or {}).items()}
        return {
            "since": self.since,
            "rows": None if self.rows is None else rows,
            "people": None if self.people is None else list(self.people),
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """The sentences for display."""
        if self.people is None:
            return (f"What was written since {self.since} would be lost (not counted: the database does not run).",)
        lines = [f"{name}: {now} rows now, {then} in the backup" for name, (now, then) in (self.rows or {}).items()]
        if self.people:
            more = f" and {len(self.people) - SHOWN} more" if len(self.people) > SHOWN else ""
            lines.append(f"people created since the backup: {', '.join(self.people[:SHOWN])}{more}")
        counted = "rows changed since then" if self.rows is not None else "all other rows written since then"
        return (f"The data of {self.since} would replace the present data. This would be lost:", *lines, counted)


def read_loss(home: Home, receipt: Receipt | None, manifest: Manifest) -> Loss | None:
    """Return what a restore of *manifest* into *home* would lose; None if it replaces no data. Reads only.

    A server's database is never replaced: its dump is restored into an empty one.
    """
    if receipt is None or receipt.engine == EngineName.SERVER or data_of(home, EngineName(receipt.engine)) is None:
        return None
    conninfo = running_database(home, EngineName(receipt.engine))
    unknown = Loss(since=manifest.created_at, rows=None, people=None)
    if conninfo is None:
        return unknown
    then = None if manifest.tables is None else {rows.table: rows.count for rows in manifest.tables}
    since = datetime.fromisoformat(manifest.created_at).astimezone(UTC).replace(tzinfo=None)
    try:
        with closing(connect(conninfo, application_name="mosaic-gateway restore")) as connection:
            people = tuple(str(email) for (email,) in connection.execute(PEOPLE, [since]))
            now = {table.as_string(connection): _count(connection, table) for table in tables_of(connection)}
    except psycopg.Error:  # damaged, or of another schema: a restore may be the remedy
        return unknown
    return Loss(since=manifest.created_at, rows=None if then is None else _differing(now, then), people=people)


def confirm(home: Home, name: str, loss: Loss, *, asks: bool) -> None:
    """Show what a restore of the backup *name* would lose, and ask.

    Raises `ConfirmationMissingError` without a terminal or without *asks*, `RestoreDeclinedError` if the answer is no.
    """
    if not asks or home.broker is not None or not sys.stdin.isatty():
        raise ConfirmationMissingError(
            "\n  ".join(("the restore was not confirmed. " + loss.lines[0], *loss.lines[1:])),
            hint="To replace the present data: " + command("backup restore", name, "--yes"),
            details={"loss": loss.to_dict()},
        )
    for line in loss.lines:
        click.echo(line, err=True)
    if not click.confirm(f"Replace the present data of {home.path}?", err=True):
        raise RestoreDeclinedError("the restore was declined; nothing was changed")


def _count(connection: psycopg.Connection[Any], table: sql.Identifier) -> int:
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    return int(row[0]) if row is not None else 0


def _differing(now: Mapping[str, int], then: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Return the tables with another number of rows; names without the quotes of SQL. Pure."""
    names = dict.fromkeys((*now, *then))
    counts = {name.replace('"', ""): (now.get(name, 0), then.get(name, 0)) for name in names}
    return {name: pair for name, pair in counts.items() if pair[0] != pair[1]}
