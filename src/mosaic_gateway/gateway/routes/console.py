"""``/api/console``: what the console displays beside better-auth's endpoints. Every endpoint only reads."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import reset_tokens
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.home_status import read_home_status
from mosaic_gateway.gateway.overview import Program, overview_json, read_database_facts
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import read_fields
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.gateway.signed_in import Visitors
from mosaic_gateway.gateway.web_settings import WebSettings
from mosaic_gateway.installation.layout import Home

__all__ = ["ConsoleRoutes"]


class ConsoleRoutes:
    """The endpoints overview, services and reset-link."""

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
            endpoint_route("GET", "/api/console/services", self.services),
            endpoint_route("POST", "/api/console/reset-link", self.reset_link),
        ]

    async def overview(self, request: Request) -> Response:
        """``GET overview``, for admins: version, database, schema, backup, doctor, sign-ins of 30 days."""
        await self._visitors.require_admin(request)
        facts = await self._database.read(lambda connection: read_database_facts(connection, self._bundles))
        home = None if self._home is None else await asyncio.to_thread(read_home_status, self._home)
        return messages.json_response(overview_json(self._program, facts, home, datetime.now(UTC)))

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
