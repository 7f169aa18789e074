"""``/healthz`` (the process answers) and ``/readyz`` (database and schema are available too).

Version and instance are only for this machine and for admins. A request is from this machine if its peer has a loopback
address or the address at which it reached the gateway, and no proxy has marked it as forwarded.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.errors import DatabaseUnavailableError
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.request_boundary import was_forwarded
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.signed_in import Visitors

__all__ = ["HealthRoutes", "is_local"]

HAS_SCHEMA = "SELECT to_regclass('users') IS NOT NULL AND to_regclass('storage_documents') IS NOT NULL"


class HealthRoutes:
    """The endpoints healthz and readyz of the gateway *instance_id*."""

    def __init__(self, database: Database, visitors: Visitors, *, version: str, instance_id: str | None) -> None:
        self._database = database
        self._visitors = visitors
        self._identity = {"version": version, "instanceId": instance_id}

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/healthz", self.healthz),
            endpoint_route("GET", "/readyz", self.readyz),
        ]

    async def healthz(self, request: Request) -> Response:
        """``GET /healthz``: return 200, without a database query unless a session token is sent."""
        return messages.json_response({"status": "ok", **await self._identity_for(request)})

    async def readyz(self, request: Request) -> Response:
        """``GET /readyz``: return 200, or 503 with what is unavailable."""
        try:
            database, schema = True, await self._database.read(_has_schema)
        except DatabaseUnavailableError:
            database = schema = False
        ready = database and schema
        body = {"status": "ready" if ready else "unavailable", "database": database, "schema": schema}
        identity = await self._identity_for(request) if ready or is_local(request) else {}
        return messages.json_response(
            {**body, **identity}, status=200 if ready else 503, headers=None if ready else {"retry-after": "1"}
        )

    async def _identity_for(self, request: Request) -> dict[str, Any]:
        """Return version and instance if the sender may know them, else nothing."""
        if is_local(request):
            return self._identity
        try:
            signed_in = await self._visitors.find(request)
        except DatabaseUnavailableError:
            return {}
        return self._identity if signed_in is not None and signed_in.is_admin else {}


def is_local(request: Request) -> bool:
    """Return whether *request* comes from this machine, without a proxy."""
    if request.client is None or was_forwarded(request):
        return False
    peer = _parsed(request.client.host)
    server = request.scope.get("server") or ("", None)
    return peer is not None and (peer.is_loopback or peer == _parsed(server[0]))


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address *text*, that of IPv4 for one that is mapped to IPv6; None if it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


async def _has_schema(connection: AsyncConnection) -> bool:
    row = await (await connection.execute(HAS_SCHEMA)).fetchone()
    return bool(row and row[0])
