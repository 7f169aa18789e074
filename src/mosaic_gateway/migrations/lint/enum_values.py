"""Rules on enum values: PostgreSQL refuses the use of one before the transaction that added it commits (55P04)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pglast import ast

from mosaic_gateway.migrations.lint.ast_utils import qualified, strings
from mosaic_gateway.migrations.lint.columns import ColumnTypes
from mosaic_gateway.migrations.lint.enum_use import Use, string_constants, use_of
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import Command, SqlFile, Transaction

__all__ = ["check_enum_values"]


@dataclass(frozen=True, slots=True)
class _Value:
    """A value added to an enum: the enum's qualified name, the label, and where it was added."""

    enum: str
    label: str
    place: str


@dataclass(slots=True)
class _Added:
    """The values added so far by the same transaction, and by earlier ones; and the enums that the same one created."""

    here: list[_Value] = field(default_factory=list)
    before: list[_Value] = field(default_factory=list)
    created: set[str] = field(default_factory=set)

    def note(self, node: ast.Node, place: str) -> None:
        if isinstance(node, ast.CreateEnumStmt):
            name = qualified(strings(node.typeName))
            self.created.add(name)
            self.before = [value for value in self.before if value.enum != name]
        elif isinstance(node, ast.AlterEnumStmt) and node.newVal is not None and node.oldVal is None:
            self.here.append(_Value(qualified(strings(node.typeName)), node.newVal, place))

    def committed(self) -> None:
        self.before += self.here
        self.here, self.created = [], set()


def check_enum_values(scripts: Sequence[SqlFile]) -> Iterator[LintFinding]:
    """Yield uses of an enum value in the transaction that added it, here, with other runners, or on older servers."""
    columns, added = ColumnTypes(), _Added()
    for script in scripts:
        for transaction in script.transactions:
            yield from _check(script, transaction, columns, added)
            added.committed()


def _check(script: SqlFile, transaction: Transaction, columns: ColumnTypes, added: _Added) -> Iterator[LintFinding]:
    for command in transaction.commands:
        for node in command.nodes:
            columns.note(node)
        used = _first_used(added.here, command, columns, Use.POSSIBLE)
        if used is not None and transaction.conflict is None:
            yield _same_transaction(script.file, command.line, used, created=used.enum in added.created)
        if (used := _first_used(added.before, command, columns, Use.CERTAIN)) is not None:
            added.before.remove(used)
            yield _later(script.file, command.line, used)
        for node in command.nodes:
            added.note(node, f"{script.file}:{command.line}")


def _same_transaction(file: str, line: int, used: _Value, *, created: bool) -> LintFinding:
    rule, who = Rule.ENUM_VALUE_USED, ""
    if created:
        rule, who = (
            Rule.ENUM_VALUE_PORTABILITY,
            "; PostgreSQL 17 and later allow it, as the same transaction creates the type",
        )
    why = (
        f"{used.label!r} is added to {used.enum} in the same transaction: it is unusable before the commit (55P04){who}"
    )
    return LintFinding(
        rule=rule, file=file, line=line, why=why, instead="Put a breakpoint, or a COMMIT, between the two."
    )


def _later(file: str, line: int, used: _Value) -> LintFinding:
    why = (
        f"{used.label!r} is added to {used.enum} by {used.place}: mosaic-gateway has committed it by then, but a "
        "runner with one transaction for all pending migrations, as drizzle-orm's, fails here (55P04)"
    )
    instead = "mosaic-gateway needs no change. For other runners, apply the two in separate runs."
    return LintFinding(rule=Rule.ENUM_VALUE_PORTABILITY, file=file, line=line, why=why, instead=instead)


def _first_used(values: Sequence[_Value], command: Command, columns: ColumnTypes, least: Use) -> _Value | None:
    words = string_constants(command.nodes) if values else set()
    for value in values:
        if value.label in words and any(
            use_of(node, value.enum, value.label, columns) >= least for node in command.nodes
        ):
            return value
    return None
