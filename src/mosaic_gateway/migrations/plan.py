"""Computes from a bundle and a ledger which migrations must run, or refuses before any write. Pure.

A migration is applied if the ledger contains its hash (`matching`). Neither row order nor ``when`` decides whether
a migration is applied: ``when`` may decrease (0009 of the gateway is older than 0008).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.hint import command
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.groups import Group, group_around
from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.line_endings import as_begun
from mosaic_gateway.migrations.matching import Matches, drizzle_name, match, to_seconds
from mosaic_gateway.migrations.model import (
    AppliedRow,
    LedgerState,
    Migration,
    Plan,
    PlannedMigration,
    ProgressRow,
    Statement,
)
from mosaic_gateway.migrations.parse import prefix_hash, statement_digests
from mosaic_gateway.migrations.side_effects import first_persistent, temporary_names
from mosaic_gateway.migrations.statement_traits import traits_of

__all__ = [
    "DatabaseNewerError",
    "DriftError",
    "PrefixChangedError",
    "SessionLostError",
    "UnknownRowError",
    "changed_statements",
    "make_plan",
    "remaining_statements",
    "shorten",
]

SHOWN = 3  # edited statements whose new text the error message shows
WIDTH = 100  # characters shown of each


class DriftError(RefusedError):
    """A migration was edited after it was applied."""

    code = "MIGRATION_DRIFT"


class DatabaseNewerError(RefusedError):
    """The database was migrated by a later version of the package."""

    code = "DATABASE_NEWER"


class UnknownRowError(RefusedError):
    """The ledger contains a migration that is not one of the bundle, such as another application's."""

    code = "LEDGER_UNKNOWN_ROW"


class PrefixChangedError(RefusedError):
    """The applied part of a half-applied migration was edited."""

    code = "MIGRATION_PREFIX_CHANGED"


class SessionLostError(RefusedError):
    """A half-applied migration needs temporary objects of a session, or the transaction, that has ended."""

    code = "MIGRATION_SESSION_LOST"


def make_plan(bundle: Bundle, state: LedgerState) -> Plan:
    """Return what must run to bring a database in *state* to *bundle*.

    Raises `DriftError`, `DatabaseNewerError`, `UnknownRowError`, `PrefixChangedError` or `SessionLostError`.
    """
    matches = match(bundle.migrations, state.applied)
    if matches.unmatched:
        raise _refusal(bundle, state, matches)
    pending = tuple(
        remaining_statements(as_begun(migration, row), row)
        for index, migration in enumerate(bundle.migrations)
        if index not in matches.applied
        for row in [state.progress.get(migration.tag)]
    )
    other = tuple(bundle.migrations[index].tag for index in sorted(matches.other_line_endings))
    return Plan(pending=pending, applied=len(matches.applied), other_line_endings=other)


def _refusal(bundle: Bundle, state: LedgerState, matches: Matches) -> RefusedError:
    unmatched = matches.unmatched
    edited = _edited(bundle, state, matches)
    if edited:
        return DriftError(
            f"{bundle.name}: {_tags(edited)} was changed after it was applied to this database",
            hint="Nothing was written. Restore the applied version of the file and put the change into a new migration"
            + ("; if the package is damaged, reinstall it." if bundle.packaged else "."),
            details={"bundle": bundle.name, "tags": [migration.tag for migration in edited]},
        )
    details = {"bundle": bundle.name, "rows": [_described(row) for row in unmatched]}
    if not matches.applied:
        return _foreign(bundle, unmatched, details)
    newest = max(migration.when for migration in bundle.migrations)
    # `when` of a later version's migrations may decrease too; they are then recognised by following all known rows.
    follows = len(matches.applied) == len(bundle.migrations) and unmatched == state.applied[-len(unmatched) :]
    if follows or all(row.when is not None and row.when > newest for row in unmatched):
        return DatabaseNewerError(
            f"{bundle.name}: the database has {len(unmatched)} migration(s) that this version does not know; "
            "it was migrated by a later version",
            hint="Nothing was written. Use the later version: pip install --upgrade mosaic-gateway, "
            "or name its folder with --from."
            if bundle.packaged
            else "Nothing was written. Use the folder of the later version, or upgrade the program that it belongs to. "
            f"If another application records its migrations in {bundle.ledger} too, give each a table of its own: "
            "--ledger NAME.",
            details=details,
        )
    where = "package" if bundle.packaged else "folder"
    return UnknownRowError(
        f"{bundle.name}: the ledger {bundle.ledger} records {len(unmatched)} migration(s) that this {where} does not "
        "have: they were removed or renamed there, or are those of another application",
        hint="Nothing was written. Make sure that this is the right database; "
        + command("storage status")
        + " shows the rows.",
        details=details,
    )


def _edited(bundle: Bundle, state: LedgerState, matches: Matches) -> list[Migration]:
    """Return the migrations that were applied with another content than their files have now.

    A row has the name of such a migration (drizzle 1.0), or its time and another hash. The time alone does not prove
    that the file was ever applied: other applications may have files of the same time, such as a common template. It
    counts if another row is one of the bundle's, or if the progress of the migration has the row's hash.
    """
    pending = [migration for index, migration in enumerate(bundle.migrations) if index not in matches.applied]
    by_key = {key: migration for migration in reversed(pending) for key in _keys(migration)}
    edited = []
    for row in matches.unmatched:
        named, timed = by_key.get(row.name or ""), None if row.when is None else by_key.get(row.when)
        progress = None if timed is None else state.progress.get(timed.tag)
        if matches.applied or (progress is not None and progress.hash == row.hash):
            named = named or timed
        if named is not None:
            edited.append(named)
    return edited


def _foreign(bundle: Bundle, unmatched: Sequence[AppliedRow], details: dict[str, Any]) -> UnknownRowError:
    """Return the error for a ledger in which no row is one of the bundle's.

    Sharing the table would lose migrations: drizzle-orm 0.45 skips every migration that is older than the newest row.
    """
    times = {row.when for row in unmatched}
    same = [one for one in bundle.migrations if times & {one.when, to_seconds(one.when)}]
    message = (
        f"{bundle.name}: none of the {len(unmatched)} row(s) of the ledger {bundle.ledger} is of these migrations: "
        "another application records its migrations there"
    )
    if same:
        message += f", or {_tags(same)}, whose time a row has, was changed after it was applied"
    own = "Use a database of its own. " if bundle.packaged else "Name a table for this folder: --ledger NAME. "
    return UnknownRowError(
        message,
        hint=f"Nothing was written. Two applications cannot share a ledger. {own}"
        + command("storage status")
        + " shows the rows.",
        details=details,
    )


def _described(row: AppliedRow) -> dict[str, str | int | None]:
    """Return *row* for ``details``, its name only in a ledger of drizzle 1.0."""
    return {"hash": row.hash, "when": row.when} | ({} if row.name is None else {"name": row.name})


def _tags(migrations: Sequence[Migration]) -> str:
    return ", ".join(migration.tag for migration in migrations)


def _keys(migration: Migration) -> Iterator[str | int]:
    """Yield what identifies *migration* in a ledger row with another hash: its name in drizzle 1.0, and its times."""
    yield drizzle_name(migration)
    yield to_seconds(migration.when)
    yield migration.when


def changed_statements(recorded: str | None, migration: Migration) -> dict[str, Any]:
    """Return which statements of *migration* differ from those that were applied, by their *recorded* digests.

    ``changed``, ``added`` and ``removed`` are lists of statement numbers (``removed`` of the applied file); ``text``
    is a summary. The lists are empty if another program applied the file and no digests were recorded.
    """
    if recorded is None:
        return {"changed": [], "added": [], "removed": [], "text": "the changed statements are unknown"}
    before, after = recorded.split(","), statement_digests(migration.statements).split(",")
    numbers: dict[str, list[int]] = {"changed": [], "added": [], "removed": []}
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        both = min(i2 - i1, j2 - j1) if kind == "replace" else 0
        numbers["changed"] += range(j1 + 1, j1 + both + 1)
        if kind != "equal":
            numbers["removed"] += range(i1 + both + 1, i2 + 1)
            numbers["added"] += range(j1 + both + 1, j2 + 1)
    summary = [f"{kind} {_numbers(listed)}" for kind, listed in numbers.items() if listed]
    for number in [*numbers["changed"], *numbers["added"]][:SHOWN]:
        statement = migration.statements[number - 1]
        summary.append(f"statement {number} (line {statement.line}) is now: {shorten(statement.sql)}")
    return {**numbers, "text": "; ".join(summary) or "only white space around statements"}


def shorten(sql: str) -> str:
    """Return *sql* on one line, truncated to `WIDTH` characters."""
    line = " ".join(sql.split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _numbers(numbers: Sequence[int]) -> str:
    return f"statement{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def remaining_statements(migration: Migration, progress: ProgressRow | None) -> PlannedMigration:
    """Return which statements of *migration* are left to run. Raises `PrefixChangedError` and `SessionLostError`."""
    if progress is None or (progress.applied == 0 and progress.intent is None):
        return PlannedMigration(migration=migration, start=0)
    applied = progress.applied
    if applied > len(migration.statements) or progress.prefix != prefix_hash(migration.statements, applied):
        raise PrefixChangedError(
            f"{migration.tag} is half applied ({applied} of {progress.total} statements), "
            "and one of the applied statements was changed since",
            hint="Nothing was written. Restore the applied statements; the statements after them may be edited.",
            details={"tag": migration.tag, "applied": applied, "total": progress.total},
        )
    prefix = migration.statements[:applied]
    if not any(traits_of(statement.sql).temporary for statement in prefix) or not _needs_session(migration, applied):
        return _from_group(migration, progress)
    persistent = first_persistent([lex(statement.sql).statements() for statement in prefix])
    if persistent is None and progress.intent is None:
        return PlannedMigration(migration=migration, start=0, progress=progress, start_over=True)
    cause = prefix[persistent] if persistent is not None else migration.statements[applied]
    raise _session_lost(migration, progress, cause)


def _from_group(migration: Migration, progress: ProgressRow) -> PlannedMigration:
    """Return the rest of *migration*; an earlier version ran each chunk alone and may have divided a group.

    Such a group runs again from its beginning if nothing that was applied of it can have outlived its transaction.
    """
    group = group_around(migration.statements, progress.applied)
    if group is None:
        return PlannedMigration(migration=migration, start=progress.applied, progress=progress)
    start = group.first - 1
    part = migration.statements[start : progress.applied]
    persistent = first_persistent([lex(statement.sql).statements() for statement in part])
    sets = any(traits_of(statement.sql).sets_session for statement in part)
    if persistent is None and not sets and progress.intent is None:
        return PlannedMigration(migration=migration, start=start, progress=progress, start_over=True)
    raise _group_divided(migration, progress, group)


def _needs_session(migration: Migration, applied: int) -> bool:
    """Return whether the remaining statements may use temporary objects that the first *applied* ones created."""
    prefix = [tokens for statement in migration.statements[:applied] for tokens in lex(statement.sql).statements()]
    names = temporary_names(prefix)
    rest = "\n".join(statement.sql for statement in migration.statements[applied:])
    return bool(rest) and (names is None or any(name.lower() in rest.lower() for name in names))


def _group_divided(migration: Migration, progress: ProgressRow, group: Group) -> SessionLostError:
    cause = group.cause
    assert cause is not None  # noqa: S101 - a group of several statements has one
    return SessionLostError(
        f"{migration.tag} is half applied ({progress.applied} of {progress.total} statements). An earlier version ran "
        f"each statement in a transaction of its own, but statements {group.first} to {group.last} need one: "
        f"{cause.name} (statement {cause.number}, line {cause.line}) acts until its transaction ends",
        hint=f"Nothing was written. Run statements {progress.applied + 1} to {group.last} by hand, in one transaction "
        f"with {cause.name}, then run " + command("storage resolve", migration.tag, "--applied") + ".",
        details={"tag": migration.tag, "applied": progress.applied, "total": progress.total},
    )


def _session_lost(migration: Migration, progress: ProgressRow, persistent: Statement) -> SessionLostError:
    temporary = next(s for s in migration.statements if traits_of(s.sql).temporary)
    return SessionLostError(
        f"{migration.tag} is half applied ({progress.applied} of {progress.total} statements). Statement "
        f"{temporary.number} (line {temporary.line}) created temporary objects, which were dropped with that session; "
        f"statement {persistent.number} (line {persistent.line}) may have had permanent effects, so the file cannot "
        "be run again from its beginning",
        hint="Nothing was written. Run the remaining statements by hand, and after each one run "
        + command("storage resolve", migration.tag, "--applied")
        + "; or edit them so that they need no temporary objects.",
        details={"tag": migration.tag, "applied": progress.applied, "total": progress.total},
    )
