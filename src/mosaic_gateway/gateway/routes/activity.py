"""``/api/console/activity``: the audit log for admins, in pages and as a file."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Any

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.activity import ActivityFilter, ActivityPage, read_actions, read_activity
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.signed_in import Visitors

__all__ = ["ActivityRoutes"]

PAGE_ROWS = 50
EXPORT_ROWS = 10_000
LONGEST_TEXT = 200  # characters of a filter
LARGEST_ID = (1 << 63) - 1  # bigint
CSV_COLUMNS = ("id", "at", "action", "actor", "actorEmail", "target", "targetEmail", "ipAddress", "details")
#: Where a spreadsheet sees the begin of a formula, also one that separates cells by semicolons, as in much of Europe.
FORMULA = re.compile("(^|;)(?=[ \t\r]*[=+@\uff0b\uff0d\uff1d\uff20-])")


class ActivityRoutes:
    """The endpoints activity and activity/export."""

    def __init__(self, database: Database, visitors: Visitors) -> None:
        self._database = database
        self._visitors = visitors

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/console/activity", self.activity),
            endpoint_route("GET", "/api/console/activity/export", self.export),
        ]

    async def activity(self, request: Request) -> Response:
        """``GET activity``, for admins: 50 entries of the audit log before the id ``before``, newest first."""
        await self._visitors.require_admin(request)
        only, before = _filter(request.query_params), _before(request.query_params)

        async def read(connection: AsyncConnection) -> tuple[ActivityPage, tuple[str, ...]]:
            page = await read_activity(connection, only, before=before, limit=PAGE_ROWS)
            return page, await read_actions(connection)

        page, actions = await self._database.read(read)
        return messages.json_response({"entries": page.entries, "older": page.older, "actions": actions})

    async def export(self, request: Request) -> Response:
        """``GET activity/export?format=csv|json``, for admins: the newest 10,000 entries that the filter selects."""
        await self._visitors.require_admin(request)
        only = _filter(request.query_params)
        form = request.query_params.get("format", "csv")
        if form not in {"csv", "json"}:
            raise messages.issues_error(["[query.format] Invalid input: expected csv or json"])
        page = await self._database.read(
            lambda connection: read_activity(connection, only, before=None, limit=EXPORT_ROWS)
        )
        headers = {"content-disposition": f'attachment; filename="activity.{form}"'}
        if form == "json":
            return messages.json_response({"entries": page.entries, "older": page.older}, headers=headers)
        return Response(_csv(page), 200, {**messages.SECURITY, **headers}, "text/csv; charset=utf-8")


def _filter(query: Mapping[str, str]) -> ActivityFilter:
    """Return the filter of a query: ``action``, ``person``, ``since`` and ``until`` (dates, both included)."""
    until = _date(query, "until")
    return ActivityFilter(
        action=_text(query, "action"),
        person=_text(query, "person"),
        since=_date(query, "since"),
        until=until + timedelta(days=1) if until and until.date() < date.max else None,
    )


def _text(query: Mapping[str, str], name: str) -> str | None:
    value = query.get(name, "").replace("\x00", "")
    return value[:LONGEST_TEXT] or None


def _date(query: Mapping[str, str], name: str) -> datetime | None:
    value = query.get(name)
    if not value:
        return None
    try:
        return datetime.combine(date.fromisoformat(value), time.min)
    except ValueError as error:
        raise messages.issues_error([f"[query.{name}] Invalid input: expected a date like 2026-01-31"]) from error


def _before(query: Mapping[str, str]) -> int | None:
    value = query.get("before")
    if not value:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < len(str(LARGEST_ID))):
        raise messages.issues_error(["[query.before] Invalid input: expected the id of an entry"])
    return int(value)


def _csv(page: ActivityPage) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    for entry in page.entries:
        writer.writerow([_cell(value) for value in _row(entry)])
    return text.getvalue().encode("utf-8", "replace")


def _row(entry: Mapping[str, Any]) -> tuple[object, ...]:
    actor, target = entry["actor"] or {}, entry["target"] or {}
    details = json.dumps(entry["details"], ensure_ascii=False) if entry["details"] else ""
    return (
        entry["id"], entry["at"], entry["action"], actor.get("name"), actor.get("email"),
        target.get("name") or target.get("id"), target.get("email"), entry["ipAddress"], details,
    )  # fmt: skip


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return FORMULA.sub(r"\1'", text)
