"""What the endpoints of the admin plugin read: the query of list-users, fields of a user, permissions."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from starlette.requests import Request

from mosaic_gateway.auth.user_search import OPERATORS, SEARCH_OPERATORS, Condition, Page
from mosaic_gateway.auth.users import UNPRINTABLE
from mosaic_gateway.gateway.messages import JSON, UNDEFINED, ApiError, issues_error, kind, read_body
from mosaic_gateway.gateway.routes.fields import Fields

__all__ = ["ban_reason", "permission_request", "search_of", "user_changes"]

#: JavaScript's decimal literals; Number() of anything else is NaN, which better-auth takes for no number.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


def search_of(request: Request) -> tuple[list[Condition], Page, dict[str, object]]:
    """Return the conditions and the page of ``list-users``, and the numbers to repeat in the answer.

    Raises `ApiError` (400 VALIDATION_ERROR).
    """
    parameters = request.query_params
    values: dict[str, object] = {}
    for name in parameters:
        given = parameters.getlist(name)
        values[name] = given if len(given) > 1 else given[0]
    query = Fields(values, "query")
    conditions = _conditions(query)
    for name in ("limit", "offset"):
        if isinstance(values.get(name), list):
            query.refuse(name, "Invalid input")
    sort_by, direction = query.optional_text("sortBy"), query.choice("sortDirection", ("asc", "desc"))
    query.check()
    limit, offset = (_number(str(values.get(name, ""))) for name in ("limit", "offset"))
    echo: dict[str, object] = {name: number for name, number in (("limit", limit), ("offset", offset)) if number}
    page = Page(sort_by=sort_by, descending=direction == "desc", limit=limit, offset=offset)
    return conditions, page, echo


def _conditions(query: Fields) -> list[Condition]:
    text = query.optional_text("searchValue")
    field = query.choice("searchField", ("email", "name")) or "email"
    operator = query.choice("searchOperator", SEARCH_OPERATORS) or "contains"
    conditions = [Condition(field, operator, text)] if text else []
    filter_field = query.optional_text("filterField") or "email"
    filter_operator = query.choice("filterOperator", OPERATORS) or "eq"
    value = query.values.get("filterValue")
    if isinstance(value, str | list):
        conditions.append(Condition(filter_field, filter_operator, value))
    return conditions


def _number(text: str) -> float:
    """Return JavaScript's ``Number(text) || undefined``, with 0 for undefined."""
    if not NUMBER.fullmatch(text.strip()):
        return 0
    number = float(text)
    if number == math.inf:
        return -1  # a number that PostgreSQL refuses, as it does Infinity
    return int(number) if number.is_integer() else number


def user_changes(data: Mapping[str, object]) -> dict[str, object]:
    """Return the columns that an admin sets from *data*; other fields than these are ignored, as by better-auth.

    Raises `ApiError` (400 VALIDATION_ERROR) for a value of another type.
    """
    fields = Fields(data, "body.data")
    changes: dict[str, object] = {}
    if fields.has("name"):
        changes["name"] = fields.name()
    if fields.has("image"):
        changes["image"] = fields.image()
    for name, column in (("emailVerified", "email_verified"), ("banned", "banned")):
        if fields.has(name):
            changes[column] = fields.flag(name)
    if fields.has("banReason"):
        changes["ban_reason"] = ban_reason(fields) if data["banReason"] is not None else None
    if fields.has("banExpires"):
        changes["ban_expires"] = fields.moment("banExpires")
    fields.check()
    return changes


def ban_reason(fields: Fields) -> str | None:
    """Return the optional ``banReason``, without characters that PostgreSQL refuses."""
    reason = fields.optional_text("banReason")
    if reason and UNPRINTABLE.search(reason):
        fields.refuse("banReason", "Invalid input: control characters")
    return reason


async def permission_request(request: Request) -> Mapping[str, Sequence[str]]:
    """Return ``permissions`` of the body of ``has-permission``. Raises `ApiError` (400)."""
    body = await read_body(request, (JSON,))
    issues = []
    if not isinstance(body, dict):
        issues.append(f"[body] Invalid input: expected object, received {kind(body)}")
        body = {}
    if not isinstance(body.get("role", ""), str):
        issues.append(f"[body.role] Invalid input: expected string, received {kind(body['role'])}")
    given = [name for name in ("permission", "permissions") if _is_permissions(body.get(name, UNDEFINED))]
    if len(given) != 1:
        issues.append("[body] Invalid input" + (": more than one option matched" if given else ""))
    if issues:
        raise issues_error(issues)
    if given == ["permission"]:
        raise ApiError(400, "", "invalid permission check. no permission(s) were passed.")
    permissions: Mapping[str, Sequence[str]] = body["permissions"]
    return permissions


def _is_permissions(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(actions, list) and all(isinstance(action, str) for action in actions) for actions in value.values()
    )
