"""Helpers for reading parse trees, shared by several rules."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast

from mosaic_gateway.migrations.lexer import lex

__all__ = ["body_of", "constants", "option", "qualified", "strings", "table_name", "walk"]

#: The schema assumed for an unqualified name; the real search_path is not known from a file.
DEFAULT_SCHEMA = "public"


def walk(value: object) -> Iterator[ast.Node]:
    """Yield *value* if it is a node, then all nodes below it."""
    if isinstance(value, ast.Node):
        yield value
        for name in value:
            yield from walk(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from walk(item)


def strings(values: object) -> tuple[str, ...]:
    """Return the texts of a list of ``String`` nodes (the parts of a dotted name)."""
    if isinstance(values, ast.String):
        values = (values,)
    if isinstance(values, ast.TypeName):
        values = values.names
    parts = values if isinstance(values, tuple) else ()
    return tuple(part.sval for part in parts if isinstance(part, ast.String) and part.sval is not None)


def qualified(parts: tuple[str, ...]) -> str:
    """Return the schema-qualified name, with the default schema for an unqualified one."""
    return ".".join(parts if len(parts) > 1 else (DEFAULT_SCHEMA, *parts))


def table_name(relation: ast.RangeVar | None) -> str:
    """Return a table's schema-qualified name, empty if *relation* has none."""
    if relation is None or relation.relname is None:
        return ""
    return f"{relation.schemaname or DEFAULT_SCHEMA}.{relation.relname}"


def option(options: object, name: str) -> object:
    """Return the argument of option *name* in a list of ``DefElem``; True if it has no argument, None if absent."""
    for item in options if isinstance(options, tuple) else ():
        if isinstance(item, ast.DefElem) and item.defname == name:
            return True if item.arg is None else item.arg
    return None


def body_of(node: ast.Node, languages: set[str]) -> str:
    """Return the body of a DO block or a function, empty unless its language is among *languages*."""
    if isinstance(node, ast.DoStmt):
        options, fallback = node.args, "plpgsql"
    elif isinstance(node, ast.CreateFunctionStmt):
        options, fallback = node.options, "sql"
    else:
        return ""
    language = "".join(strings(option(options, "language"))) or fallback
    return "".join(strings(option(options, "as"))) if language.lower() in languages else ""


def constants(node: ast.Node) -> set[str]:
    """Return the string constants of a statement, including those in a body that is run or checked immediately."""
    values = {
        item.val.sval
        for item in walk(node)
        if isinstance(item, ast.A_Const) and isinstance(item.val, ast.String) and item.val.sval is not None
    }
    languages = {"sql", "plpgsql"} if isinstance(node, ast.DoStmt) else {"sql"}
    body = lex(body_of(node, languages))
    return values | {token.text for token in body.tokens if token.kind == "text"}
