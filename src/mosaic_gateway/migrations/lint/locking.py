"""Rules on statements that hold a lock while they scan a whole table."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import table_name
from mosaic_gateway.migrations.lint.created_objects import added_columns, alterations, with_created
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import SqlFile

__all__ = ["check_locking"]

Constr = enums.ConstrType
SCANNED = {Constr.CONSTR_CHECK: "CHECK", Constr.CONSTR_FOREIGN: "FOREIGN KEY"}
INDEXED = {Constr.CONSTR_UNIQUE: "UNIQUE", Constr.CONSTR_PRIMARY: "PRIMARY KEY", Constr.CONSTR_EXCLUSION: "EXCLUDE"}
LATER = "Add it as a constraint of its own with NOT VALID, then VALIDATE CONSTRAINT in a chunk of its own."
FROM_INDEX = "CREATE UNIQUE INDEX CONCURRENTLY in a chunk of its own, then ADD CONSTRAINT … USING INDEX."


def check_locking(script: SqlFile) -> Iterator[LintFinding]:
    """Yield indexes and constraints that block writes to a table created by an earlier migration."""
    for command, created in with_created(script):
        node = command.node
        if isinstance(node, ast.IndexStmt) and not node.concurrent:
            table = table_name(node.relation)
            if not created.relation(table):
                why = f"writes to {table} are blocked until the index is built"
                instead = "CREATE INDEX CONCURRENTLY, in a chunk of its own."
                yield LintFinding(
                    rule=Rule.INDEX_NOT_CONCURRENT, file=script.file, line=command.line, why=why, instead=instead
                )
        elif isinstance(node, ast.AlterTableStmt) and not created.relation(table_name(node.relation)):
            for why, instead in _validated(node):
                yield LintFinding(
                    rule=Rule.CONSTRAINT_VALIDATED, file=script.file, line=command.line, why=why, instead=instead
                )


def _validated(node: ast.AlterTableStmt) -> Iterator[tuple[str, str]]:
    table = table_name(node.relation)
    for constraint in _constraints(node):
        kind = constraint.contype
        if kind in SCANNED and not constraint.skip_validation:
            yield f"{SCANNED[kind]} on {table} is checked against all rows while writes are blocked", LATER
        elif kind in INDEXED and not constraint.indexname:
            yield f"{INDEXED[kind]} on {table} builds its index while reads and writes are blocked", FROM_INDEX


def _constraints(node: ast.AlterTableStmt) -> Iterator[ast.Constraint]:
    for command in alterations(node):
        if command.subtype == enums.AlterTableType.AT_AddConstraint and isinstance(command.def_, ast.Constraint):
            yield command.def_
    for column in added_columns(node):
        yield from (item for item in column.constraints or () if isinstance(item, ast.Constraint))
