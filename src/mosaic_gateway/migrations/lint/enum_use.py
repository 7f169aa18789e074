"""Decides whether a statement uses a string constant as a value of a certain enum.

PostgreSQL gives a constant the type of what it is assigned to or compared with. The same word can be a label of
another enum, or an ordinary text, so the type is looked up as far as the folder's files show it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import qualified, strings, table_name, walk
from mosaic_gateway.migrations.lint.columns import ColumnTypes
from mosaic_gateway.migrations.lint.created_objects import alterations

__all__ = ["Use", "string_constants", "use_of"]

TEXTS = (".text", ".varchar", ".bpchar")
SYSTEM = ("pg_catalog.", "information_schema.", "public.pg_")
#: A type that is not an enum of the folder, and one that the files do not show.
OTHER, UNKNOWN = "other", None


class Use(IntEnum):
    """Whether a constant is used as a value of the enum; ``POSSIBLE``: the files do not show its type."""

    NONE = 0
    POSSIBLE = 1
    CERTAIN = 2


def use_of(node: ast.Node, enum: str, label: str, columns: ColumnTypes) -> Use:
    """Return whether *node* uses *label* as a value of *enum* (schema-qualified)."""
    return _Search(enum, label, columns, tuple(_tables(node))).within(node, OTHER)


def string_constants(nodes: Iterable[ast.Node]) -> set[str | None]:
    """Return the values of all string constants in *nodes*."""
    constants = (item.val for node in nodes for item in walk(node) if isinstance(item, ast.A_Const))
    return {value.sval for value in constants if isinstance(value, ast.String)}


@dataclass(frozen=True, slots=True)
class _Search:
    """The search in one statement, which names ``tables``: (name or alias, schema-qualified name)."""

    enum: str
    label: str
    columns: ColumnTypes
    tables: tuple[tuple[str, str], ...]

    def within(self, node: object, expected: str | None) -> Use:
        """Return the use in *node*, whose value is assigned to or compared with something of the type *expected*."""
        if isinstance(node, tuple):
            return max((self.within(item, expected) for item in node), default=Use.NONE)
        if isinstance(node, ast.A_Const):
            return self._constant(node, expected)
        if not isinstance(node, ast.Node):
            return Use.NONE
        parts = self._typed_parts(node, expected)
        return max((self.within(part, type_) for part, type_ in parts), default=Use.NONE)

    def _constant(self, node: ast.A_Const, expected: str | None) -> Use:
        if not isinstance(node.val, ast.String) or node.val.sval != self.label:
            return Use.NONE
        if expected is UNKNOWN:
            return Use.POSSIBLE
        return Use.CERTAIN if expected == self.enum else Use.NONE

    def _typed_parts(self, node: ast.Node, expected: str | None) -> Iterator[tuple[object, str | None]]:
        """Yield each part of *node* with the type that a constant in it has."""
        if isinstance(node, ast.UpdateStmt):
            yield from self._assigned(node.relation, node.targetList)
            yield from _others(node, "targetList")
        elif isinstance(node, ast.InsertStmt):
            yield from self._insert(node)
        elif isinstance(node, ast.AlterTableStmt):
            for command in alterations(node):
                default = command.subtype == enums.AlterTableType.AT_ColumnDefault
                yield command.def_, self._column(node.relation, command.name or "") if default else OTHER
        elif isinstance(node, ast.ColumnDef):
            type_ = qualified(strings(node.typeName))
            yield node.raw_default, type_
            for constraint in node.constraints or ():
                yield constraint.raw_expr, type_
        else:
            yield from self._expression(node, expected)

    def _expression(self, node: ast.Node, expected: str | None) -> Iterator[tuple[object, str | None]]:
        if isinstance(node, ast.TypeCast):
            type_ = qualified(strings(node.typeName))
            # A text that is cast to the enum, as in 'x'::text::e, is a use, too.
            yield node.arg, self.enum if expected == self.enum and type_.endswith(TEXTS) else type_
        elif isinstance(node, ast.A_Expr):
            yield node.lexpr, self._type_of(node.rexpr)
            yield node.rexpr, self._type_of(node.lexpr)
        elif isinstance(node, ast.CaseExpr):
            for branch in node.args or ():
                yield branch.expr, self._type_of(node.arg)
                yield branch.result, expected
            yield node.defresult, expected
        elif isinstance(node, ast.CoalesceExpr):
            types = (self._type_of(item) for item in node.args or ())
            yield node.args, next((known for known in types if known != OTHER), expected)
        elif isinstance(node, ast.A_ArrayExpr | ast.ResTarget):
            yield from ((part, expected) for part, _ in _others(node))
        else:
            yield from _others(node)

    def _insert(self, node: ast.InsertStmt) -> Iterator[tuple[object, str | None]]:
        names = [target.name or "" for target in node.cols or ()] or list(
            self.columns.of(table_name(node.relation)) or ()
        )
        types = [self._column(node.relation, name) for name in names]
        select = node.selectStmt
        if isinstance(select, ast.SelectStmt):
            for row in select.valuesLists or (select.targetList or (),):
                yield from zip(row, itertools.chain(types, itertools.repeat(UNKNOWN)))  # noqa: B905 - endless
            yield from _others(select, "valuesLists", "targetList")
        if node.onConflictClause is not None:
            yield from self._assigned(node.relation, node.onConflictClause.targetList)
            yield from _others(node.onConflictClause, "targetList")
        yield from _others(node, "selectStmt", "onConflictClause")

    def _assigned(
        self, table: ast.RangeVar | None, targets: Sequence[ast.ResTarget] | None
    ) -> Iterator[tuple[object, str | None]]:
        for target in targets or ():
            yield target.val, self._column(table, target.name or "")

    def _column(self, table: ast.RangeVar | None, name: str) -> str | None:
        return _column(self.columns.of(table_name(table)), name)

    def _type_of(self, node: object) -> str | None:
        """Return the type that *node* gives to a constant which it is compared with; `OTHER` for another constant."""
        if isinstance(node, ast.TypeCast):
            return qualified(strings(node.typeName))
        if not isinstance(node, ast.ColumnRef):
            return OTHER
        *qualifiers, name = strings(node.fields) or ("",)
        found = {
            _column(self.columns.of(table), name)
            for alias, table in self.tables
            if not table.startswith(SYSTEM) and (not qualifiers or qualifiers[-1] == alias)
        }
        if self.enum in found:
            return self.enum
        return UNKNOWN if UNKNOWN in found else OTHER


def _tables(node: ast.Node) -> Iterator[tuple[str, str]]:
    for item in walk(node):
        if isinstance(item, ast.RangeVar):
            yield (item.relname or "") if item.alias is None else (item.alias.aliasname or ""), table_name(item)


def _others(node: ast.Node, *without: str) -> Iterator[tuple[object, str | None]]:
    """Yield the parts of *node*, in which no constant has a type that *node* gives to it."""
    for name in node:
        if name not in without:
            yield getattr(node, name), OTHER


def _column(known: Mapping[str, str] | None, name: str) -> str | None:
    """Return the type of the column *name*: `UNKNOWN` in an unknown table, `OTHER` if the table has no such column."""
    return UNKNOWN if known is None else known.get(name, OTHER)
