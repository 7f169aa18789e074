"""Rules for backward compatibility: programs of the version before must work with the new schema.

An upgrade applies the migrations first; until the last old process ends, its queries run against the new
schema. A compatible change takes two releases: the first adds the new objects, the second removes the old ones
once no process of the version before is running.
"""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import qualified, strings, table_name
from mosaic_gateway.migrations.lint.created_objects import CreatedObjects, alterations, has_value, with_created
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import SqlFile

__all__ = ["check_breaking"]

Object = enums.ObjectType
Alter = enums.AlterTableType
Constr = enums.ConstrType
RELATIONS = {Object.OBJECT_TABLE, Object.OBJECT_VIEW, Object.OBJECT_MATVIEW, Object.OBJECT_FOREIGN_TABLE}
#: Object types on which columns can depend: DROP … CASCADE drops those columns too.
USED_BY_COLUMNS = {Object.OBJECT_TYPE, Object.OBJECT_DOMAIN, Object.OBJECT_EXTENSION, Object.OBJECT_FUNCTION}
NOT_NULL = {Constr.CONSTR_NOTNULL, Constr.CONSTR_PRIMARY}
Fault = tuple[Rule, str, str]

OLD_PROGRAMS = "programs of the version before"

BECOMES_NOT_NULL = (
    "{} becomes NOT NULL: the statement fails if a row has no value there, and so do rows that "
    f"{OLD_PROGRAMS} write without it"
)
LATER = "Stop using it in this release; drop it in a later one, with -- lint: allow and the reason."
COPIED = "Add the new one beside it, write to both, copy the rows; drop the old one in a later release."
NULLABLE = "Give it a DEFAULT, or add it without NOT NULL and set NOT NULL in a later release."
TIGHTEN = (
    "Give it a DEFAULT first; in a later release ADD CONSTRAINT … CHECK (… IS NOT NULL) NOT VALID, "
    "VALIDATE CONSTRAINT, then SET NOT NULL, which then does not scan the table."
)


def check_breaking(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements that drop, rename or restrict what programs of the version before use."""
    for command, created in with_created(script):
        for rule, why, instead in _faults(command.node, created):
            yield LintFinding(rule=rule, file=script.file, line=command.line, why=why, instead=instead)


def _faults(node: ast.Node, created: CreatedObjects) -> Iterator[Fault]:
    if isinstance(node, ast.DropStmt):
        yield from _drop(node, created)
    elif isinstance(node, ast.RenameStmt):
        yield from _rename(node, created)
    elif isinstance(node, ast.AlterObjectSchemaStmt):
        name = table_name(node.relation)
        if node.objectType in RELATIONS and not created.relation(name):
            yield Rule.RENAME, f"{name} moves to another schema; {OLD_PROGRAMS} look for it here", COPIED
    elif isinstance(node, ast.AlterEnumStmt) and node.oldVal is not None:
        if qualified(strings(node.typeName)) not in created.types:
            why = f"the value {node.oldVal!r} is renamed; {OLD_PROGRAMS} use the old name"
            yield Rule.RENAME, why, COPIED
    elif isinstance(node, ast.AlterTableStmt) and node.objtype in RELATIONS:
        yield from _alter(node, created)


def _drop(node: ast.DropStmt, created: CreatedObjects) -> Iterator[Fault]:
    cascades = node.behavior == enums.DropBehavior.DROP_CASCADE
    for item in node.objects or ():
        name = ".".join(strings(item)) if node.removeType == Object.OBJECT_SCHEMA else qualified(strings(item))
        if node.removeType == Object.OBJECT_SCHEMA and name not in created.schemas:
            yield Rule.DROP_TABLE, f"the schema {name} is dropped with all that {OLD_PROGRAMS} use in it", LATER
        elif node.removeType in RELATIONS and not created.relation(name):
            yield Rule.DROP_TABLE, f"{name} is dropped; {OLD_PROGRAMS} read or write it", LATER
        elif node.removeType in USED_BY_COLUMNS and cascades and name not in created.types:
            why = f"CASCADE also drops the columns that depend on {name}, without naming them"
            yield Rule.DROP_COLUMN, why, f"Drop without CASCADE. {LATER}"


def _rename(node: ast.RenameStmt, created: CreatedObjects) -> Iterator[Fault]:
    name = table_name(node.relation)
    if node.renameType in RELATIONS and not created.relation(name):
        yield Rule.RENAME, f"{name} is renamed; {OLD_PROGRAMS} use the old name", COPIED
    elif node.renameType == Object.OBJECT_COLUMN and not created.column(name, node.subname):
        why = f"{name}.{node.subname} is renamed; {OLD_PROGRAMS} use the old name"
        yield Rule.RENAME, why, COPIED
    elif node.renameType == Object.OBJECT_TYPE and qualified(strings(node.object)) not in created.types:
        why = f"the type {qualified(strings(node.object))} is renamed; {OLD_PROGRAMS} cast to the old name"
        yield Rule.RENAME, why, COPIED
    elif node.renameType == Object.OBJECT_SCHEMA and node.subname not in created.schemas:
        why = f"the schema {node.subname} is renamed; {OLD_PROGRAMS} use the old name"
        yield Rule.RENAME, why, COPIED


def _alter(node: ast.AlterTableStmt, created: CreatedObjects) -> Iterator[Fault]:
    table = table_name(node.relation)
    if created.relation(table):
        return
    for command in alterations(node):
        name = f"{table}.{command.name}"
        existed = not created.column(table, command.name)
        if command.subtype == Alter.AT_DropColumn and existed:
            yield Rule.DROP_COLUMN, f"{name} is dropped; {OLD_PROGRAMS} name it in their queries", LATER
        elif command.subtype == Alter.AT_AlterColumnType and existed:
            why = f"{name} changes its type: most such changes rewrite the table under a lock and convert values"
            yield Rule.TYPE_CHANGE, why, COPIED
        elif command.subtype == Alter.AT_SetNotNull and not created.columns.get((table, command.name or "")):
            yield Rule.NOT_NULL, BECOMES_NOT_NULL.format(name), TIGHTEN
        elif command.subtype == Alter.AT_AddColumn and isinstance(command.def_, ast.ColumnDef):
            yield from _new_column(table, command.def_)
        elif isinstance(command.def_, ast.Constraint) and command.def_.contype == Constr.CONSTR_NOTNULL:
            column = "".join(strings(command.def_.keys))
            yield Rule.NOT_NULL, BECOMES_NOT_NULL.format(f"{table}.{column}"), TIGHTEN


def _new_column(table: str, column: ast.ColumnDef) -> Iterator[Fault]:
    not_null = any(constraint.contype in NOT_NULL for constraint in column.constraints or ())
    if not_null and not has_value(column):
        why = (
            f"{table}.{column.colname} is NOT NULL without a DEFAULT: the statement fails if the table has rows, "
            f"and so do rows that {OLD_PROGRAMS} write"
        )
        yield Rule.NOT_NULL, why, NULLABLE
