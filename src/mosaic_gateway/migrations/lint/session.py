"""Rules on session state: it is lost when a later run resumes the migration, and on what ends with a transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pglast import ast, enums

from mosaic_gateway.migrations.lint.ast_utils import strings, walk
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import Command, SqlFile

__all__ = ["check_local_settings", "check_session_settings", "check_temporary_objects"]

TEMPORARY = "t"  # pg_class.relpersistence
AUTHORIZATION = "session_authorization"  # refused by the runner
TEMPORARY_SCHEMA = "pg_temp"
Kind = enums.TransactionStmtKind
ENDS = {Kind.TRANS_STMT_COMMIT, Kind.TRANS_STMT_ROLLBACK}
RESETS = {enums.VariableSetKind.VAR_RESET}
SETS = {
    enums.VariableSetKind.VAR_SET_VALUE,
    enums.VariableSetKind.VAR_SET_CURRENT,
    enums.VariableSetKind.VAR_SET_MULTI,
}


def check_temporary_objects(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements that create temporary objects in a transaction that is not the last."""
    for transaction in script.transactions:
        if transaction.last:
            continue
        for command in transaction.commands:
            what = _temporary(command.node)
            if what is not None and not _is_dropped_on_commit(command.node):
                why = f"{what} ends with the session: a migration interrupted after it may be impossible to resume"
                instead = "Use an ordinary table and drop it at the end, or put all that uses it into the last chunk."
                yield LintFinding(
                    rule=Rule.TEMPORARY_OBJECT, file=script.file, line=command.line, why=why, instead=instead
                )


def check_session_settings(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements that change a setting or the role for the whole session."""
    for command in script.commands:
        name = _setting(command.node)
        if name is None:
            continue
        why = (
            f"{name} is set for the session: mosaic-gateway limits it to this file and restores it on resume, "
            "drizzle does neither"
        )
        instead = "Use SET LOCAL in the chunk that needs it, or schema-qualified names."
        yield LintFinding(rule=Rule.SESSION_SETTING, file=script.file, line=command.line, why=why, instead=instead)


def check_local_settings(scripts: Sequence[SqlFile]) -> Iterator[LintFinding]:
    """Yield settings of a transaction that are still set at the end of a file which others follow.

    Time limits are left out: they change what fails, not what comes out.
    """
    for script in scripts[:-1]:
        current: dict[str, int] = {}
        for command in script.commands:
            _note_local(command, current)
        for name, line in current.items():
            why = (
                f"{name} is set for the transaction: mosaic-gateway ends it with this file, drizzle-orm after the last "
                "pending file"
            )
            instead = "Set it in each file that needs it; reset it at the end of this one."
            yield LintFinding(rule=Rule.LOCAL_SETTING, file=script.file, line=line, why=why, instead=instead)


def _note_local(command: Command, current: dict[str, int]) -> None:
    """Add to *current* the setting that *command* changes for its transaction, and remove what it resets."""
    node = command.node
    if isinstance(node, ast.TransactionStmt) and node.kind in ENDS:
        current.clear()
    elif isinstance(node, ast.VariableSetStmt) and (node.is_local or node.kind in RESETS):
        current.pop((node.name or "").lower(), None)
        if node.kind in SETS and not (node.name or "").endswith("timeout"):
            current[(node.name or "").lower()] = command.line
    elif isinstance(node, ast.SelectStmt):
        for item in filter(_is_set_config, walk(node.targetList)):
            match _constants(item):
                case (str(name), value, True) if not name.endswith("timeout"):
                    current.pop(name, None)
                    if value != "":
                        current[name] = command.line


def _temporary(node: ast.Node) -> str | None:
    if isinstance(node, ast.DeclareCursorStmt) and (node.options or 0) & enums.CURSOR_OPT_HOLD:
        return "a cursor WITH HOLD"
    if isinstance(node, ast.PrepareStmt):
        return "a prepared statement"
    relation = _created_relation(node)
    if relation is not None and (relation.relpersistence == TEMPORARY or relation.schemaname == TEMPORARY_SCHEMA):
        return "a temporary object"
    return "a temporary object" if TEMPORARY_SCHEMA in _created_name(node)[:-1] else None


def _is_dropped_on_commit(node: ast.Node) -> bool:
    if isinstance(node, ast.CreateTableAsStmt) and node.into is not None:
        return node.into.onCommit == enums.OnCommitAction.ONCOMMIT_DROP
    return isinstance(node, ast.CreateStmt) and node.oncommit == enums.OnCommitAction.ONCOMMIT_DROP


def _created_relation(node: ast.Node) -> ast.RangeVar | None:
    if isinstance(node, ast.CreateStmt):
        return node.relation
    if isinstance(node, ast.CreateSeqStmt):
        return node.sequence
    if isinstance(node, ast.ViewStmt):
        return node.view
    into = None
    if isinstance(node, ast.CreateTableAsStmt):
        into = node.into
    elif isinstance(node, ast.SelectStmt):
        into = node.intoClause
    return None if into is None else into.rel


def _created_name(node: ast.Node) -> tuple[str, ...]:
    if isinstance(node, ast.CreateFunctionStmt):
        return strings(node.funcname)
    if isinstance(node, ast.CreateEnumStmt):
        return strings(node.typeName)
    if isinstance(node, ast.CreateDomainStmt):
        return strings(node.domainname)
    return ()


def _setting(node: ast.Node) -> str | None:
    if isinstance(node, ast.VariableSetStmt):
        sets = node.kind in SETS and not node.is_local
        sets = sets and not (node.name or "").startswith(("TRANSACTION", AUTHORIZATION))
        return (node.name or "").lower() if sets else None
    if not isinstance(node, ast.SelectStmt):
        return None
    return next((name for item in walk(node.targetList) if (name := _set_config(item))), None)


def _set_config(node: ast.Node) -> str | None:
    if not _is_set_config(node):
        return None
    name, *_, local = _constants(node) or (None, None)
    return None if local is True else str(name or "a setting")


def _is_set_config(node: ast.Node) -> bool:
    return isinstance(node, ast.FuncCall) and strings(node.funcname)[-1:] == ("set_config",)


def _constants(node: ast.Node) -> tuple[str | bool | None, ...]:
    """Return the arguments of a call: strings and booleans, None for each other expression."""
    values = (item.val if isinstance(item, ast.A_Const) else None for item in getattr(node, "args", None) or ())
    return tuple(
        value.sval if isinstance(value, ast.String) else bool(value.boolval) if isinstance(value, ast.Boolean) else None
        for value in values
    )
