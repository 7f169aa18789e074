"""``/api/console``: what the console displays beside better-auth's endpoints. Every endpoint only reads."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import reset_tokens
from mosaic_gateway.auth.activity import ActivityFilter, ActivityPage, read_actions, read_activity
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.home_status import read_home_status
from mosaic_gateway.gateway.messages import ApiError
from mosaic_gateway.gateway.overview import Program, overview_json, read_database_facts
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import read_fields
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.gateway.signed_in import SignedIn, Visitors
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.installation.layout import Home

__all__ = ["ConsoleRoutes"]

PAGE_ROWS = 50
EXPORT_ROWS = 10_000
LONGEST_TEXT = 200  # characters of a filter
LARGEST_ID = (1 << 63) - 1  # bigint
CSV_COLUMNS = ("id", "at", "action", "actor", "actorEmail", "target", "targetEmail", "ipAddress", "details")
#: A spreadsheet would take a cell that begins so as a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ConsoleRoutes:
    """The endpoints overview, activity, activity/export, services and reset-link."""

    def __init__(
        self, database: Database, visitors: Visitors, program: Program, web: WebSettings, home: Home | None
    ) -> None:
        self._database = database
        self._visitors = visitors
        self._program = program
        self._web = web
        self._home = home
        self._bundles = load_bundles()

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/console/overview", self.overview),
            endpoint_route("GET", "/api/console/activity", self.activity),
            endpoint_route("GET", "/api/console/activity/export", self.export),
            endpoint_route("GET", "/api/console/services", self.services),
            endpoint_route("POST", "/api/console/reset-link", self.reset_link),
        ]

    async def overview(self, request: Request) -> Response:
        """``GET overview``, for admins: version, database, schema, backup, doctor, sign-ins of 30 days."""
        await self._require_admin(request)
        facts = await self._database.read(lambda connection: read_database_facts(connection, self._bundles))
        home = None if self._home is None else await asyncio.to_thread(read_home_status, self._home)
        return messages.json_response(overview_json(self._program, facts, home, datetime.now(UTC)))

    async def activity(self, request: Request) -> Response:
        """``GET activity``, for admins: 50 entries of the audit log before the id ``before``, newest first."""
        await self._require_admin(request)
        only, before = _filter(request.query_params), _before(request.query_params)

        async def read(connection: AsyncConnection) -> tuple[ActivityPage, tuple[str, ...]]:
            page = await read_activity(connection, only, before=before, limit=PAGE_ROWS)
            return page, await read_actions(connection)

        page, actions = await self._database.read(read)
        return messages.json_response({"entries": page.entries, "older": page.older, "actions": actions})

    async def export(self, request: Request) -> Response:
        """``GET activity/export?format=csv|json``, for admins: the newest 10,000 entries that the filter selects."""
        await self._require_admin(request)
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

    async def services(self, request: Request) -> Response:
        """``GET services``: the named rules of forward authentication that permit the signed-in user."""
        roles = ((await self._visitors.require(request)).user.role or "user").split(",")
        scheme = urlsplit(self._web.base_url).scheme
        services = [
            {"name": rule.name, "url": rule.url(scheme)}
            for rule in self._web.forward_rules
            if rule.name is not None and not rule.host.startswith("*") and rule.permits(roles)
        ]
        return messages.json_response({"services": services})

    async def reset_link(self, request: Request) -> Response:
        """``POST reset-link {token}``, for anyone: return ``{"valid": bool}``; the token stays valid."""
        fields = await read_fields(request)
        token = fields.text("token")
        fields.check()
        user_id = await self._database.read(lambda connection: reset_tokens.find_user_id(connection, token))
        return messages.json_response({"valid": user_id is not None})

    async def _require_admin(self, request: Request) -> SignedIn:
        signed_in = await self._visitors.require(request)
        if not signed_in.is_admin:
            raise ApiError(403, "FORBIDDEN", "Only an admin may see this")
        return signed_in


def _filter(query: Mapping[str, str]) -> ActivityFilter:
    """Return the filter of a query: ``action``, ``person``, ``since`` and ``until`` (dates, both included)."""
    until = _date(query, "until")
    return ActivityFilter(
        action=_text(query, "action"),
        person=_text(query, "person"),
        since=_date(query, "since"),
        until=until and until + timedelta(days=1),
    )


def _text(query: Mapping[str, str], name: str) -> str | None:
    value = query.get(name, "").replace("\x00", "")
    return value[:LONGEST_TEXT] or None


def _date(query: Mapping[str, str], name: str) -> datetime | None:
    value = query.get(name)
    if not value:
        return None
    try:
        return datetime.strptime(value, "%Y-%m-%d")  # noqa: DTZ007 - the tables have UTC without zone
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
    return f"'{text}" if text.startswith(FORMULA) else text
