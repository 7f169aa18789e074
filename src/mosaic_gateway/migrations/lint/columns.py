"""The types of the columns that the migrations of a folder have created so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import qualified, strings, table_name
from mosaic_gateway.migrations.lint.created_objects import added_columns, alterations

__all__ = ["ColumnTypes"]

Object = enums.ObjectType


@dataclass(slots=True)
class ColumnTypes:
    """Schema-qualified table → column → schema-qualified type; a table that is not here was created elsewhere."""

    tables: dict[str, dict[str, str]] = field(default_factory=dict)

    def of(self, table: str) -> Mapping[str, str] | None:
        """Return the columns of *table* in their order; None if the table was created elsewhere."""
        return self.tables.get(table)

    def note(self, node: ast.Node) -> None:
        """Add, change and rename what *node* adds, changes and renames."""
        if isinstance(node, ast.CreateStmt):
            columns = [element for element in node.tableElts or () if isinstance(element, ast.ColumnDef)]
            if len(columns) == len([e for e in node.tableElts or () if not isinstance(e, ast.Constraint)]):
                self.tables[table_name(node.relation)] = {c.colname or "": _type(c) for c in columns}
        elif isinstance(node, ast.AlterTableStmt):
            self._alter(node)
        elif isinstance(node, ast.RenameStmt):
            self._rename(node)
        elif isinstance(node, ast.DropStmt) and node.removeType == Object.OBJECT_TABLE:
            for name in node.objects or ():
                self.tables.pop(qualified(strings(name)), None)

    def _alter(self, node: ast.AlterTableStmt) -> None:
        columns = self.tables.get(table_name(node.relation))
        if columns is None:
            return
        columns |= {column.colname or "": _type(column) for column in added_columns(node)}
        for command in alterations(node):
            if command.subtype == enums.AlterTableType.AT_AlterColumnType and isinstance(command.def_, ast.ColumnDef):
                columns[command.name or ""] = _type(command.def_)
            elif command.subtype == enums.AlterTableType.AT_DropColumn:
                columns.pop(command.name or "", None)

    def _rename(self, node: ast.RenameStmt) -> None:
        name, new = table_name(node.relation), node.newname or ""
        if node.renameType == Object.OBJECT_TYPE:
            old_type = qualified(strings(node.object))
            new_type = f"{old_type.partition('.')[0]}.{new}"
            for table, columns in self.tables.items():
                self.tables[table] = {column: (new_type if t == old_type else t) for column, t in columns.items()}
        elif node.renameType == Object.OBJECT_TABLE and name in self.tables:
            self.tables[f"{name.partition('.')[0]}.{new}"] = self.tables.pop(name)
        elif node.renameType == Object.OBJECT_COLUMN and name in self.tables:
            self.tables[name] = {(new if old == node.subname else old): t for old, t in self.tables[name].items()}


def _type(column: ast.ColumnDef) -> str:
    return qualified(strings(column.typeName))
