"""The objects that a migration has created so far: programs of the version before do not use them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import qualified, strings, table_name
from mosaic_gateway.migrations.lint.source import Command, SqlFile

__all__ = ["CreatedObjects", "added_columns", "alterations", "has_value", "with_created"]

Alter = enums.AlterTableType
Constr = enums.ConstrType
#: With one of these constraints a new row has a value in the column even if the INSERT does not name it.
VALUES = {Constr.CONSTR_DEFAULT, Constr.CONSTR_IDENTITY, Constr.CONSTR_GENERATED}
SERIAL = {"smallserial", "serial", "bigserial", "serial2", "serial4", "serial8"}


@dataclass(slots=True)
class CreatedObjects:
    """Schema-qualified names. ``columns`` are those added to older tables, True for one that has a default."""

    relations: set[str] = field(default_factory=set)
    types: set[str] = field(default_factory=set)
    schemas: set[str] = field(default_factory=set)
    columns: dict[tuple[str, str], bool] = field(default_factory=dict)

    def relation(self, name: str) -> bool:
        """Return whether the table or view *name*, or its schema, was created by this migration."""
        return name in self.relations or name.split(".", 1)[0] in self.schemas

    def column(self, relation: str, name: str | None) -> bool:
        """Return whether the column *name* was created by this migration, with its table or added to it."""
        return self.relation(relation) or (relation, name or "") in self.columns

    def note(self, node: ast.Node) -> None:
        """Add what *node* creates and remove what it drops."""
        self._note_relation(node)
        if isinstance(node, ast.CreateEnumStmt | ast.CreateRangeStmt):
            self.types.add(qualified(strings(node.typeName)))
        elif isinstance(node, ast.CreateDomainStmt):
            self.types.add(qualified(strings(node.domainname)))
        elif isinstance(node, ast.CompositeTypeStmt):
            self.types.add(table_name(node.typevar))
        elif isinstance(node, ast.CreateSchemaStmt) and node.schemaname:
            self.schemas.add(node.schemaname)
        elif isinstance(node, ast.AlterTableStmt):
            self._note_columns(node)

    def _note_relation(self, node: ast.Node) -> None:
        if isinstance(node, ast.CreateStmt):  # includes CREATE FOREIGN TABLE
            self.relations.add(table_name(node.relation))
        elif isinstance(node, ast.ViewStmt) and not node.replace:
            self.relations.add(table_name(node.view))
        elif isinstance(node, ast.CreateTableAsStmt) and node.into is not None:
            self.relations.add(table_name(node.into.rel))
        elif isinstance(node, ast.SelectStmt) and node.intoClause is not None:
            self.relations.add(table_name(node.intoClause.rel))
        elif isinstance(node, ast.DropStmt):
            self.relations -= {qualified(strings(name)) for name in node.objects or ()}
        elif isinstance(node, ast.RenameStmt) and self.relation(table_name(node.relation)):
            schema = table_name(node.relation).split(".", 1)[0]
            self.relations.add(f"{schema}.{node.newname}")

    def _note_columns(self, node: ast.AlterTableStmt) -> None:
        table = table_name(node.relation)
        for column in added_columns(node):
            self.columns[table, column.colname or ""] = has_value(column)
        for command in alterations(node):
            key = (table, command.name or "")
            if command.subtype == Alter.AT_ColumnDefault and key in self.columns:
                self.columns[key] = command.def_ is not None
            elif command.subtype == Alter.AT_DropColumn:
                self.columns.pop(key, None)


def with_created(script: SqlFile) -> Iterator[tuple[Command, CreatedObjects]]:
    """Yield each statement with the objects created before it; all pairs share one `CreatedObjects`."""
    created = CreatedObjects()
    for command in script.commands:
        yield command, created
        created.note(command.node)


def alterations(node: ast.AlterTableStmt) -> Iterator[ast.AlterTableCmd]:
    """Yield the parts of an ALTER TABLE."""
    for command in node.cmds or ():
        if isinstance(command, ast.AlterTableCmd):
            yield command


def added_columns(node: ast.AlterTableStmt) -> Iterator[ast.ColumnDef]:
    """Yield the columns that an ALTER TABLE adds."""
    for command in alterations(node):
        if command.subtype == Alter.AT_AddColumn and isinstance(command.def_, ast.ColumnDef):
            yield command.def_


def has_value(column: ast.ColumnDef) -> bool:
    """Return whether an INSERT that omits the column still sets it to a value."""
    named = strings(column.typeName)[-1:]
    return bool(set(named) & SERIAL) or any(constraint.contype in VALUES for constraint in column.constraints or ())
