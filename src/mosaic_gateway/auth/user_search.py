"""The search of better-auth's ``admin/list-users``: one search, one filter, an order and a page.

A field or a value that does not fit gives an empty result, as in better-auth. Unlike there, ``%`` and ``_`` in a
searched text stand for themselves, and users without an order are listed oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import class_row

from mosaic_gateway.auth.better_auth_format import moment_of
from mosaic_gateway.auth.users import COLUMNS, User

__all__ = ["OPERATORS", "SEARCH_OPERATORS", "Condition", "Page", "search_users"]

DEFAULT_LIMIT = 100  # better-auth's
FIELDS: Mapping[str, str] = {
    "name": "name", "email": "email", "emailVerified": "email_verified", "image": "image",
    "createdAt": "created_at", "updatedAt": "updated_at", "role": "role", "banned": "banned",
    "banReason": "ban_reason", "banExpires": "ban_expires", "id": "id", "_id": "id",
}  # fmt: skip
BOOLEANS = ("email_verified", "banned")
TIMES = ("created_at", "updated_at", "ban_expires")
COMPARISONS: Mapping[str, LiteralString] = {
    "eq": "{} = %s", "ne": "{} <> %s", "lt": "{} < %s", "lte": "{} <= %s", "gt": "{} > %s", "gte": "{} >= %s",
    "in": "{} = ANY (%s)", "not_in": "{} <> ALL (%s)",
}  # fmt: skip
PATTERNS: Mapping[str, str] = {"contains": "%{}%", "starts_with": "{}%", "ends_with": "%{}"}
SEARCH_OPERATORS = tuple(PATTERNS)
OPERATORS = (*COMPARISONS, *PATTERNS)
SELECT: LiteralString = f"SELECT {COLUMNS} FROM users u"  # noqa: S608 - constants only
COUNT = "SELECT count(*) FROM users u"


@dataclass(frozen=True, slots=True)
class Condition:
    """*field* *operator* *value*, in better-auth's names; a list only for ``in`` and ``not_in``."""

    field: str
    operator: str
    value: str | list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Order and page of the result; *limit* 0 is better-auth's default, 100."""

    sort_by: str | None = None
    descending: bool = False
    limit: float = 0
    offset: float = 0


async def search_users(
    connection: AsyncConnection, conditions: list[Condition], page: Page
) -> tuple[list[User], int] | None:
    """Return the users of *page* and how many meet all *conditions*; None if a field, value or number does not fit."""
    try:
        where, values = _where(conditions)
        order = _order(page)
        limit, offset = _whole(page.limit) or DEFAULT_LIMIT, _whole(page.offset)
    except (KeyError, ValueError, OverflowError):
        return None
    listing = sql.SQL(" ").join((sql.SQL(SELECT), where, order, sql.SQL("LIMIT %s OFFSET %s")))
    try:
        async with connection.cursor(row_factory=class_row(User)) as cursor:
            users = await (await cursor.execute(listing, (*values, limit, offset))).fetchall()
        row = await (await connection.execute(sql.SQL(COUNT) + sql.SQL(" ") + where, values)).fetchone()
    except psycopg.DataError:  # NUL in a text, or a time out of PostgreSQL's range
        return None
    return users, int(row[0]) if row else 0


def _where(conditions: list[Condition]) -> tuple[sql.Composable, list[object]]:
    parts: list[sql.Composable] = []
    values: list[object] = []
    for condition in conditions:
        column = FIELDS[condition.field]
        template, value = _comparison(condition, column)
        parts.append(sql.SQL(template).format(sql.Identifier("u", column)))
        values.append(value)
    return (sql.SQL("WHERE ") + sql.SQL(" AND ").join(parts), values) if parts else (sql.SQL(""), values)


def _comparison(condition: Condition, column: str) -> tuple[LiteralString, object]:
    value, operator = condition.value, condition.operator
    if operator in ("in", "not_in"):
        items = value if isinstance(value, list) else [value]
        return COMPARISONS[operator], [_value(column, item) for item in items]
    if isinstance(value, list) or (operator in PATTERNS and column in (*BOOLEANS, *TIMES)):
        raise ValueError(condition)
    if operator in PATTERNS:
        literal = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return "{} LIKE %s", PATTERNS[operator].format(_value(column, literal))
    return COMPARISONS[operator], _value(column, value)


def _value(column: str, text: str) -> object:
    if column in BOOLEANS:
        return text == "true"
    if column in TIMES:
        return moment_of(text)
    return text.encode("utf-8", "replace").decode()  # a lone surrogate equals nothing that is stored


def _order(page: Page) -> sql.Composable:
    if not page.sort_by:
        return sql.SQL("ORDER BY u.created_at, u.id")
    direction: LiteralString = "DESC" if page.descending else "ASC"
    column = sql.Identifier("u", FIELDS[page.sort_by])
    return sql.SQL("ORDER BY {} " + direction + ", u.id").format(column)


def _whole(number: float) -> int:
    whole = int(number)
    if whole != number or not 0 <= whole < 1 << 62:
        raise ValueError(number)
    return whole
