"""``/healthz`` (the process answers) and ``/readyz`` (database and schema are available too)."""

from __future__ import annotations

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.errors import DatabaseUnavailableError
from mosaic_gateway.gateway import messages
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.routes.endpoint import endpoint_route

__all__ = ["HealthRoutes"]

HAS_SCHEMA = "SELECT to_regclass('users') IS NOT NULL AND to_regclass('storage_documents') IS NOT NULL"


class HealthRoutes:
    """The endpoints healthz and readyz of the gateway *instance_id*."""

    def __init__(self, database: Database, *, version: str, instance_id: str | None) -> None:
        self._database = database
        self._identity = {"version": version, "instanceId": instance_id}

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/healthz", self.healthz),
            endpoint_route("GET", "/readyz", self.readyz),
        ]

    async def healthz(self, _request: Request) -> Response:
        """``GET /healthz``: return 200 with version and instance, without a database query."""
        return messages.json_response({"status": "ok", **self._identity})

    async def readyz(self, _request: Request) -> Response:
        """``GET /readyz``: return 200, or 503 with what is unavailable."""
        try:
            database, schema = True, await self._database.read(_has_schema)
        except DatabaseUnavailableError:
            database = schema = False
        ready = database and schema
        body = {"status": "ready" if ready else "unavailable", "database": database, "schema": schema}
        return messages.json_response(
            {**body, **self._identity}, status=200 if ready else 503, headers=None if ready else {"retry-after": "1"}
        )


async def _has_schema(connection: AsyncConnection) -> bool:
    row = await (await connection.execute(HAS_SCHEMA)).fetchone()
    return bool(row and row[0])
