"""Rules on statements that PostgreSQL runs only outside of a transaction block (SQLSTATE 25001 and 2D000).

The runner recognises such a statement by the server's error and then runs it outside of a transaction. That is
impossible in a chunk with other statements: PostgreSQL runs all statements of one message in one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import option, qualified, strings
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import Command, SqlFile

__all__ = ["check_commits_itself", "check_concurrently_if_not_exists", "check_own_chunk", "outside_of_transactions"]

OWN_CHUNK = "Put it into a chunk of its own, with a breakpoint before and after it."
SIMPLE: tuple[tuple[type[ast.Node], str], ...] = (
    (ast.AlterSystemStmt, "ALTER SYSTEM"),
    (ast.CreatedbStmt, "CREATE DATABASE"),
    (ast.DropdbStmt, "DROP DATABASE"),
    (ast.CreateTableSpaceStmt, "CREATE TABLESPACE"),
    (ast.DropTableSpaceStmt, "DROP TABLESPACE"),
    (ast.CreateSubscriptionStmt, "CREATE SUBSCRIPTION"),
    (ast.DropSubscriptionStmt, "DROP SUBSCRIPTION"),
)
REINDEX_ALL = {
    enums.ReindexObjectType.REINDEX_OBJECT_SCHEMA,
    enums.ReindexObjectType.REINDEX_OBJECT_SYSTEM,
    enums.ReindexObjectType.REINDEX_OBJECT_DATABASE,
}


def check_own_chunk(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements that need a transaction of their own but share one."""
    for transaction in script.transactions:
        for command in transaction.commands:
            name = outside_of_transactions(command.node)
            if name is not None and transaction.shared(command) and transaction.conflict is None:
                why = f"{name} cannot run in a transaction block (25001), and the statements of a chunk share one"
                yield LintFinding(
                    rule=Rule.NEEDS_OWN_CHUNK, file=script.file, line=command.line, why=why, instead=OWN_CHUNK
                )


def check_concurrently_if_not_exists(script: SqlFile) -> Iterator[LintFinding]:
    """Yield CREATE INDEX CONCURRENTLY IF NOT EXISTS."""
    for command in script.commands:
        node = command.node
        if isinstance(node, ast.IndexStmt) and node.concurrent and node.if_not_exists:
            why = (
                "a failed build leaves an invalid index of that name, which IF NOT EXISTS then accepts: "
                "mosaic-gateway checks whether it is valid, other runners do not"
            )
            instead = "Omit IF NOT EXISTS; for other runners, DROP INDEX CONCURRENTLY IF EXISTS in the chunk before."
            yield LintFinding(
                rule=Rule.CONCURRENTLY_IF_NOT_EXISTS, file=script.file, line=command.line, why=why, instead=instead
            )


def check_commits_itself(scripts: Sequence[SqlFile]) -> Iterator[LintFinding]:
    """Yield DO blocks that commit, and calls of procedures of the folder that do."""
    committing: set[str] = set()
    for script in scripts:
        for transaction in script.transactions:
            for command in transaction.commands:
                name = _commits(command, committing)
                if name is not None and transaction.conflict is None:
                    yield _commits_itself(script.file, command.line, name, alone=not transaction.shared(command))
                if isinstance(command.node, ast.CreateFunctionStmt) and command.body.commits:
                    committing.add(qualified(strings(command.node.funcname)))


def outside_of_transactions(node: ast.Node) -> str | None:
    """Return the name of the statement if it cannot run in a transaction block, None if it can."""
    for kind, name in SIMPLE:
        if isinstance(node, kind):
            return None if _creates_no_slot(node) else name
    return _index(node) or _maintenance(node) or _detach(node)


def _commits(command: Command, committing: Collection[str]) -> str | None:
    if isinstance(command.node, ast.DoStmt) and command.body.commits:
        return "a DO block with COMMIT or ROLLBACK"
    for node in command.nodes:
        if isinstance(node, ast.CallStmt) and node.funccall is not None:
            procedure = qualified(strings(node.funccall.funcname))
            if procedure in committing:
                return f"the procedure {procedure}, which has COMMIT or ROLLBACK,"
    return None


def _commits_itself(file: str, line: int, name: str, *, alone: bool) -> LintFinding:
    if alone:
        why = (
            f"{name} runs outside of a transaction: after an interruption it is unknown how much it committed, and "
            "storage resolve must be given; drizzle-orm's transaction refuses it (2D000)"
        )
        instead = "Let it continue what an earlier call has begun, or write statements that commit with their chunk."
        return LintFinding(rule=Rule.COMMITS_ITSELF, file=file, line=line, why=why, instead=instead)
    why = f"{name} cannot run in a transaction block (2D000), and the statements of a chunk share one"
    return LintFinding(rule=Rule.NEEDS_OWN_CHUNK, file=file, line=line, why=why, instead=OWN_CHUNK)


def _creates_no_slot(node: ast.Node) -> bool:
    """Return whether a CREATE SUBSCRIPTION creates no replication slot; then it may run in a transaction block."""
    if not isinstance(node, ast.CreateSubscriptionStmt):
        return False
    for name in ("connect", "create_slot"):
        value = option(node.options, name)
        text = value.sval if isinstance(value, ast.String) else ""
        if (text or "").lower() in {"false", "off", "0"}:
            return True
    return False


def _index(node: ast.Node) -> str | None:
    if isinstance(node, ast.IndexStmt) and node.concurrent:
        return "CREATE INDEX CONCURRENTLY"
    if isinstance(node, ast.DropStmt) and node.concurrent:
        return "DROP INDEX CONCURRENTLY"
    if isinstance(node, ast.ReindexStmt) and option(node.params, "concurrently"):
        return "REINDEX CONCURRENTLY"
    if isinstance(node, ast.ReindexStmt) and node.kind in REINDEX_ALL:
        return "REINDEX of a schema or a database"
    return None


def _maintenance(node: ast.Node) -> str | None:
    if isinstance(node, ast.VacuumStmt) and node.is_vacuumcmd:
        return "VACUUM"
    if isinstance(node, ast.ClusterStmt) and node.relation is None:
        return "CLUSTER of all tables"
    if isinstance(node, ast.DiscardStmt) and node.target == enums.DiscardMode.DISCARD_ALL:
        return "DISCARD ALL"
    return None


def _detach(node: ast.Node) -> str | None:
    if not isinstance(node, ast.AlterTableStmt):
        return None
    for command in node.cmds or ():
        part = command.def_ if isinstance(command, ast.AlterTableCmd) else None
        if isinstance(part, ast.PartitionCmd) and part.concurrent:
            return "DETACH PARTITION CONCURRENTLY"
    return None
