"""Helpers for reading parse trees, shared by several rules."""

from __future__ import annotations

from collections.abc import Iterator

from pglast import ast

__all__ = ["option", "qualified", "strings", "table_name", "walk"]

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
