"""Rules that follow from each chunk running in its own transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import strings, walk
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import SqlFile

__all__ = ["check_transaction_control", "check_transaction_scope"]

Kind = enums.TransactionStmtKind
SAVEPOINTS = {Kind.TRANS_STMT_SAVEPOINT, Kind.TRANS_STMT_RELEASE, Kind.TRANS_STMT_ROLLBACK_TO}
NO_SAVEPOINT = "Remove it: a chunk is applied entirely or not at all. A DO block can catch an expected error."
SCOPED: Mapping[type[ast.Node], str] = {ast.ConstraintsSetStmt: "SET CONSTRAINTS", ast.LockStmt: "the lock"}


def check_transaction_control(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements that begin or end a transaction."""
    for command in script.commands:
        node = command.node
        if isinstance(node, ast.TransactionStmt) and node.kind not in SAVEPOINTS:
            why = "it begins or ends a transaction; the runner wraps each chunk in one, and refuses the file"
            instead = "Remove it. Put statements that must commit together into one chunk, others into several."
            yield LintFinding(
                rule=Rule.TRANSACTION_CONTROL, file=script.file, line=command.line, why=why, instead=instead
            )


def check_transaction_scope(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements whose effect ends with the transaction before another statement can use it."""
    for chunk in script.chunks:
        for index, command in enumerate(chunk.commands):
            why = _without_effect(command.node, followed=bool(chunk.following(index)))
            if why is not None:
                together = "Put it into one chunk with the statements that need it, before them, or remove it."
                instead = NO_SAVEPOINT if isinstance(command.node, ast.TransactionStmt) else together
                yield LintFinding(
                    rule=Rule.TRANSACTION_SCOPE, file=script.file, line=command.line, why=why, instead=instead
                )


def _without_effect(node: ast.Node, *, followed: bool) -> str | None:
    """Return why *node* has no effect, None if it has one."""
    if isinstance(node, ast.TransactionStmt):
        return "the runner refuses savepoints in every chunk" if node.kind in SAVEPOINTS else None
    if isinstance(node, ast.VariableSetStmt) and node.kind == enums.VariableSetKind.VAR_SET_MULTI:
        # SET SESSION CHARACTERISTICS, the other statement of this kind, outlives the transaction.
        late = "SET TRANSACTION comes too late: the runner has already written its progress row in the transaction"
        return late if (node.name or "").startswith("TRANSACTION") else None
    what = None if followed else _scoped(node)
    return None if what is None else f"{what} ends with its chunk's transaction, and no statement follows it there"


def _scoped(node: ast.Node) -> str | None:
    for kind, name in SCOPED.items():
        if isinstance(node, kind):
            return name
    if isinstance(node, ast.VariableSetStmt) and node.is_local:
        return "SET LOCAL"
    if isinstance(node, ast.DeclareCursorStmt) and not (node.options or 0) & enums.CURSOR_OPT_HOLD:
        return "the cursor"
    if _is_dropped_on_commit(node):
        return "a temporary table with ON COMMIT DROP"
    if isinstance(node, ast.SelectStmt) and any(_sets_locally(item) for item in walk(node.targetList)):
        return "a set_config for the transaction"
    return None


def _is_dropped_on_commit(node: ast.Node) -> bool:
    if isinstance(node, ast.CreateStmt):
        return node.oncommit == enums.OnCommitAction.ONCOMMIT_DROP
    if isinstance(node, ast.CreateTableAsStmt) and node.into is not None:
        return node.into.onCommit == enums.OnCommitAction.ONCOMMIT_DROP
    return False


def _sets_locally(node: ast.Node) -> bool:
    if not isinstance(node, ast.FuncCall) or strings(node.funcname)[-1:] != ("set_config",):
        return False
    *_, local = node.args or (None,)
    return isinstance(local, ast.A_Const) and isinstance(local.val, ast.Boolean) and bool(local.val.boolval)
