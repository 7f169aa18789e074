"""``/api/tokens``: the API tokens of who is signed in. The endpoints are the gateway's own, not better-auth's.

They need a session: a token cannot list, create or revoke tokens.
"""

from __future__ import annotations

from datetime import timedelta

from psycopg import AsyncConnection
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth import api_tokens
from mosaic_gateway.auth.api_tokens import IssuedToken
from mosaic_gateway.auth.better_auth_format import utc_now
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import json_response
from mosaic_gateway.gateway.routes.endpoint import endpoint_route
from mosaic_gateway.gateway.routes.fields import Fields, read_fields
from mosaic_gateway.gateway.signed_in import Visitors, actor_of

__all__ = ["TokenRoutes"]

DAYS_MAX = 3650


class TokenRoutes:
    """The endpoints that list, create and revoke API tokens."""

    def __init__(self, database: Database, visitors: Visitors) -> None:
        self._database = database
        self._visitors = visitors

    def routes(self) -> list[Route]:
        """Return the routes of the endpoints."""
        return [
            endpoint_route("GET", "/api/tokens", self.list_tokens),
            endpoint_route("POST", "/api/tokens", self.create_token),
            endpoint_route("POST", "/api/tokens/revoke", self.revoke_token),
        ]

    async def list_tokens(self, request: Request) -> Response:
        """``GET``: return ``{"tokens": […]}``, without their text, revoked and expired ones too."""
        user = (await self._visitors.require(request)).user
        found = await self._database.read(lambda connection: api_tokens.list_tokens(connection, user.id))
        return json_response({"tokens": [record.to_json() for record in found]})

    async def create_token(self, request: Request) -> Response:
        """``POST {name, scopes, expiresInDays}``: create a token (201); its text is in this answer only.

        Without ``expiresInDays`` the token does not expire.
        """
        fields = await read_fields(request)
        name, scopes, days = fields.name(), _scopes(fields), fields.number("expiresInDays")
        if days is not None and not 0 < days <= DAYS_MAX:
            fields.refuse("expiresInDays", f"Invalid input: expected 1 to {DAYS_MAX}")
        fields.check()
        expires_at = utc_now() + timedelta(days=days) if days is not None else None

        async def create(connection: AsyncConnection) -> IssuedToken:
            signed_in = await self._visitors.require_on(connection, request)
            actor, user = actor_of(request, signed_in), signed_in.user
            return await api_tokens.create_token(
                connection, actor, user, name=name, scopes=scopes, expires_at=expires_at
            )

        issued = await self._database.write(create)
        return json_response({**issued.record.to_json(), "token": issued.token.reveal()}, status=201)

    async def revoke_token(self, request: Request) -> Response:
        """``POST revoke {id}``: revoke one of the own tokens."""
        fields = await read_fields(request)
        token_id = fields.text("id")
        fields.check()

        async def revoke(connection: AsyncConnection) -> dict[str, object]:
            signed_in = await self._visitors.require_on(connection, request)
            actor, user_id = actor_of(request, signed_in), signed_in.user.id
            return (await api_tokens.revoke_token(connection, actor, token_id, user_id=user_id)).to_json()

        return json_response(await self._database.write(revoke))


def _scopes(fields: Fields) -> list[str]:
    value = fields.values.get("scopes")
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return value
    fields.refuse("scopes", "Invalid input: expected a list of strings")
    return []
