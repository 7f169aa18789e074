"""The statements in the body of a DO block, a function or a procedure.

PostgreSQL runs the body of a DO block at once, checks that of a function in SQL when it is created, and does neither
with that of a function or a procedure in PL/pgSQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pglast import ast
from pglast.error import Error
from pglast.parser import parse_plpgsql_json, parse_sql

from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.lint.ast_utils import option, strings
from mosaic_gateway.migrations.statement_traits import is_word

__all__ = ["NO_BODY", "Body", "body_of"]

PLPGSQL, SQL = "plpgsql", "sql"
ENDINGS = ("commit", "rollback")
EXPRESSION, ASSIGNMENT = 2, 3  # RawParseMode of PostgreSQL's parser; an assignment has further modes above it


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a statement: ``nodes`` are the statements that PostgreSQL runs or checks together with it.

    ``commits``: the body contains COMMIT or ROLLBACK, which run when the block or the procedure runs.
    """

    nodes: tuple[ast.Node, ...] = ()
    commits: bool = False


NO_BODY = Body()


def body_of(node: ast.Node) -> Body:
    """Return the body of *node*, an empty one if it has none that can be read."""
    if isinstance(node, ast.DoStmt):
        options, fallback = node.args, PLPGSQL
    elif isinstance(node, ast.CreateFunctionStmt):
        options, fallback = node.options, SQL
    else:
        return NO_BODY
    text = "".join(strings(option(options, "as")))
    language = ("".join(strings(option(options, "language"))) or fallback).lower()
    if language == SQL:
        return Body(nodes=tuple(_parsed(text)))
    if language != PLPGSQL:
        return NO_BODY
    return Body(nodes=tuple(_block(text)) if isinstance(node, ast.DoStmt) else (), commits=_ends_transaction(text))


def _block(text: str) -> Iterator[ast.Node]:
    """Yield the statements and expressions of a PL/pgSQL block, and the texts that it runs with EXECUTE."""
    quote = next(tag for tag in (f"$b{number}$" for number in range(len(text) + 1)) if tag not in text)
    try:
        functions = json.loads(parse_plpgsql_json(f"DO {quote}{text}{quote}"))
    except (Error, ValueError):
        return
    for expression in _expressions(functions):
        yield from _parsed(_as_statement(expression.get("query", ""), expression.get("parseMode", 0)))


def _expressions(value: object) -> Iterator[dict[str, Any]]:
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _expressions(item)
    if isinstance(value, dict) and isinstance(found := value.get("PLpgSQL_expr"), dict):
        yield found


def _as_statement(query: str, mode: int) -> str:
    if mode >= ASSIGNMENT:
        query, mode = query.partition("=")[2], EXPRESSION
    return f"SELECT {query}" if mode == EXPRESSION else query


def _parsed(text: str) -> Iterator[ast.Node]:
    """Yield the statements in *text*, and those in a string constant that is all of it (the argument of EXECUTE)."""
    try:
        statements = parse_sql(text)
    except Error:
        return
    for statement in statements:
        if isinstance(statement.stmt, ast.Node):
            yield statement.stmt
            yield from _parsed(_constant(statement.stmt))


def _constant(node: ast.Node) -> str:
    """Return the value of a SELECT of one string constant, an empty string for any other statement."""
    targets = node.targetList if isinstance(node, ast.SelectStmt) else None
    value = targets[0].val if targets and len(targets) == 1 else None
    constant = value.val if isinstance(value, ast.A_Const) else None
    return (constant.sval or "") if isinstance(constant, ast.String) else ""


def _ends_transaction(body: str) -> bool:
    tokens = lex(body).tokens
    return any(
        is_word(token, *ENDINGS) and (following.text == ";" or is_word(following, "and", "work", "transaction"))
        for token, following in pairwise(tokens)
    )
