"""From a bundle and a ledger to what must run: a pure decision, or a refusal before any write.

A migration is applied when the ledger holds its hash. Rows are matched as a multiset, first on
(hash, when), then on hash alone: two files may have the same bytes, and ``when`` may run backwards
(0009 of the gateway does), so neither order nor ``when`` decides anything.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher
from typing import Any

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.lexer import lex
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
from mosaic_gateway.migrations.side_effects import lasting, temporary_names
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

SHOWN = 3  # statements whose new text a refusal shows
WIDTH = 100  # characters of it


class DriftError(RefusedError):
    """A migration was edited after it had been applied."""

    code = "MIGRATION_DRIFT"


class DatabaseNewerError(RefusedError):
    """The database was migrated by a later version of the package."""

    code = "DATABASE_NEWER"


class UnknownRowError(RefusedError):
    """The ledger holds a migration that this package never had."""

    code = "LEDGER_UNKNOWN_ROW"


class PrefixChangedError(RefusedError):
    """The applied part of a half-applied migration was edited."""

    code = "MIGRATION_PREFIX_CHANGED"


class SessionLostError(RefusedError):
    """A half-applied migration needs temporary objects that are gone with the session that made them."""

    code = "MIGRATION_SESSION_LOST"


def make_plan(bundle: Bundle, state: LedgerState) -> Plan:
    """Return what must run on a database in *state* to hold *bundle*.

    Raises `DriftError`, `DatabaseNewerError`, `UnknownRowError`, `PrefixChangedError` or `SessionLostError`.
    """
    applied, left_over = _match(bundle.migrations, state.applied)
    if left_over:
        raise _refusal(bundle, state.applied, applied, left_over)
    pending = tuple(
        remaining_statements(migration, state.progress.get(migration.tag))
        for index, migration in enumerate(bundle.migrations)
        if index not in applied
    )
    return Plan(pending=pending, applied=len(applied))


def _match(migrations: Sequence[Migration], rows: Sequence[AppliedRow]) -> tuple[set[int], list[AppliedRow]]:
    """Return the indexes of the applied migrations, and the rows that belong to none, in their order.

    A row that repeats one of an applied migration belongs to it: drizzle's unlocked runs leave such rows.
    """
    applied: set[int] = set()
    left_over = list(rows)
    for identity in (_hash_and_when, _hash_alone):
        waiting: dict[Hashable, list[int]] = {}
        for index in reversed(range(len(migrations))):
            if index not in applied:
                waiting.setdefault(identity(migrations[index]), []).append(index)
        unmatched = []
        for row in left_over:
            if indexes := waiting.get(identity(row)):
                applied.add(indexes.pop())
            else:
                unmatched.append(row)
        left_over = unmatched
    known = {(migration.hash, when) for migration in migrations for when in (migration.when, _cut(migration.when))}
    return applied, [row for row in left_over if _hash_and_when(row) not in known]


def _hash_and_when(item: Migration | AppliedRow) -> Hashable:
    return item.hash, item.when


def _cut(when: int) -> int:
    """Return *when* as drizzle 1.0 writes it: cut to seconds."""
    return when // 1000 * 1000


def _hash_alone(item: Migration | AppliedRow) -> Hashable:
    return item.hash


def _refusal(
    bundle: Bundle, rows: Sequence[AppliedRow], applied: set[int], left_over: Sequence[AppliedRow]
) -> RefusedError:
    waiting = [m for index, m in enumerate(bundle.migrations) if index not in applied]
    unmatched = {_cut(m.when): m for m in waiting} | {m.when: m for m in waiting}
    edited = [unmatched[row.when] for row in left_over if row.when in unmatched]
    if edited:
        tags = ", ".join(migration.tag for migration in edited)
        return DriftError(
            f"{bundle.name}: {tags} was changed after it had been applied to this database",
            hint="Nothing was written. Restore the file as it was applied and put the change into a new migration; "
            "if the package is damaged, reinstall it.",
            details={"bundle": bundle.name, "tags": [migration.tag for migration in edited]},
        )
    details = {"bundle": bundle.name, "rows": [{"hash": row.hash, "when": row.when} for row in left_over]}
    newest = max((migration.when for migration in bundle.migrations), default=0)
    # A later version's `when` may run backwards too: then it shows by coming after all that this one has.
    follows = len(applied) == len(bundle.migrations) and tuple(left_over) == tuple(rows)[-len(left_over) :]
    if follows or all(row.when is not None and row.when > newest for row in left_over):
        return DatabaseNewerError(
            f"{bundle.name}: the database has {len(left_over)} migration(s) that this version does not know; "
            "it was migrated by a later version",
            hint="Nothing was written. Take that later version: pip install --upgrade mosaic-gateway, "
            "or with --from its folder.",
            details=details,
        )
    return UnknownRowError(
        f"{bundle.name}: the ledger {bundle.ledger.schema}.{bundle.ledger.table} records {len(left_over)} "
        "migration(s) that this package never had",
        hint="Nothing was written. Make sure that this is the right database; "
        "mosaic-gateway storage status shows the rows.",
        details=details,
    )


def changed_statements(noted: str | None, migration: Migration) -> dict[str, Any]:
    """Return which statements of *migration* differ from those that were applied, by their *noted* digests.

    ``changed``, ``added`` and ``removed`` are statement numbers (``removed`` of the applied file), ``text``
    says it in words. All are empty where another program applied the file and nothing was noted.
    """
    if noted is None:
        return {"changed": [], "added": [], "removed": [], "text": "which statements cannot be told"}
    before, after = noted.split(","), statement_digests(migration.statements).split(",")
    numbers: dict[str, list[int]] = {"changed": [], "added": [], "removed": []}
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        both = min(i2 - i1, j2 - j1) if kind == "replace" else 0
        numbers["changed"] += range(j1 + 1, j1 + both + 1)
        if kind != "equal":
            numbers["removed"] += range(i1 + both + 1, i2 + 1)
            numbers["added"] += range(j1 + both + 1, j2 + 1)
    summary = [f"{kind} {_numbers(found)}" for kind, found in numbers.items() if found]
    for number in [*numbers["changed"], *numbers["added"]][:SHOWN]:
        statement = migration.statements[number - 1]
        summary.append(f"statement {number} (line {statement.line}) is now: {shorten(statement.sql)}")
    return {**numbers, "text": "; ".join(summary) or "only white space around statements"}


def shorten(sql: str) -> str:
    """Return the beginning of *sql* on one line."""
    line = " ".join(sql.split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _numbers(numbers: Sequence[int]) -> str:
    return f"statement{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def remaining_statements(migration: Migration, progress: ProgressRow | None) -> PlannedMigration:
    """Return what is left to do of *migration*. Raises `PrefixChangedError` and `SessionLostError`."""
    if progress is None or (progress.applied == 0 and progress.intent is None):
        return PlannedMigration(migration=migration, start=0)
    applied = progress.applied
    if applied > len(migration.statements) or progress.prefix != prefix_hash(migration.statements, applied):
        raise PrefixChangedError(
            f"{migration.tag} is half applied ({applied} of {progress.total} statements), "
            "and one of the applied statements was changed since",
            hint="Nothing was written. Restore the applied statements as they were; the rest may be edited.",
            details={"tag": migration.tag, "applied": applied, "total": progress.total},
        )
    prefix = migration.statements[:applied]
    if not any(traits_of(statement.sql).temporary for statement in prefix) or not _needs_session(migration, applied):
        return PlannedMigration(migration=migration, start=applied, progress=progress)
    stays = lasting([lex(statement.sql).statements() for statement in prefix])
    if stays is None and progress.intent is None:
        return PlannedMigration(migration=migration, start=0, progress=progress, start_over=True)
    raise _session_lost(migration, progress, prefix[stays] if stays is not None else migration.statements[applied])


def _needs_session(migration: Migration, applied: int) -> bool:
    """Return whether the statements after the first *applied* may name temporary objects that these made."""
    prefix = [tokens for statement in migration.statements[:applied] for tokens in lex(statement.sql).statements()]
    names = temporary_names(prefix)
    rest = "\n".join(statement.sql for statement in migration.statements[applied:])
    return bool(rest) and (names is None or any(name.lower() in rest.lower() for name in names))


def _session_lost(migration: Migration, progress: ProgressRow, stays: Statement) -> SessionLostError:
    temporary = next(s for s in migration.statements if traits_of(s.sql).temporary)
    return SessionLostError(
        f"{migration.tag} is half applied ({progress.applied} of {progress.total} statements). Statement "
        f"{temporary.number} (line {temporary.line}) made temporary objects, which went with the session of that run; "
        f"statement {stays.number} (line {stays.line}) may have changed what stays, so the file cannot begin again",
        hint="Nothing was written. Do the rest of the file by hand and tell with mosaic-gateway storage resolve "
        f"{migration.tag} --applied, statement by statement; or edit the rest so that it needs no temporary object.",
        details={"tag": migration.tag, "applied": progress.applied, "total": progress.total},
    )
