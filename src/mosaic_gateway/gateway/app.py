"""The HTTP application: its routes and its error responses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.passwords import Hasher
from mosaic_gateway.config import Secret
from mosaic_gateway.gateway.database import Database, make_pool
from mosaic_gateway.gateway.messages import empty, json_response
from mosaic_gateway.gateway.pages import page_routes
from mosaic_gateway.gateway.protection import Protection
from mosaic_gateway.gateway.request_boundary import RequestBoundary
from mosaic_gateway.gateway.routes.account import AccountRoutes
from mosaic_gateway.gateway.routes.admin import AdminRoutes
from mosaic_gateway.gateway.routes.admin_access import AdminAccess
from mosaic_gateway.gateway.routes.admin_credentials import AdminCredentialRoutes
from mosaic_gateway.gateway.routes.auth import AuthRoutes
from mosaic_gateway.gateway.routes.bootstrap import BootstrapRoutes
from mosaic_gateway.gateway.routes.forward import ForwardRoutes
from mosaic_gateway.gateway.routes.health import HealthRoutes
from mosaic_gateway.gateway.routes.passwords import PasswordCheck, PasswordRoutes
from mosaic_gateway.gateway.routes.sign_in import SignInRoutes
from mosaic_gateway.gateway.routes.tokens import TokenRoutes
from mosaic_gateway.gateway.signed_in import Visitors
from mosaic_gateway.gateway.sweep import sweep_regularly
from mosaic_gateway.gateway.web_settings import WebSettings

__all__ = ["Services", "create_app", "make_pool"]

AUTH_PREFIX = "/api/auth/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The pool and the settings of the application, supplied by `run.server`.

    ``pool`` comes from `make_pool`.
    """

    pool: AsyncConnectionPool[AsyncConnection]
    auth_secret: Secret
    web: WebSettings
    version: str
    instance_id: str | None


def create_app(services: Services) -> Starlette:
    """Return the application, which opens the pool at start-up and closes it at shutdown.

    Everything it needs is imported and read here, because the process may drop root privileges next.
    """
    database, hasher = Database(services.pool), Hasher()

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await services.pool.open()
        sweeping = asyncio.create_task(sweep_regularly(database))
        try:
            yield
        finally:
            sweeping.cancel()
            hasher.close()
            await services.pool.close()

    app = Starlette(
        routes=_routes(services, database, hasher),
        lifespan=lifespan,
        exception_handlers={HTTPException: _routing_error},
    )
    app.router.redirect_slashes = False  # better-auth answers 404 to a trailing slash
    app.add_middleware(RequestBoundary, services.web)
    return app


def _routes(services: Services, database: Database, hasher: Hasher) -> list[Route]:
    cookies = Cookies(services.auth_secret, services.web.base_url, services.web.cookie_domain)
    visitors, protection = Visitors(database, cookies), Protection.of(database, cookies, hasher)
    passwords, access = PasswordCheck(database, protection), AdminAccess(database, visitors)
    return [
        *AuthRoutes(database, cookies).routes(),
        *SignInRoutes(database, cookies, protection).routes(),
        *AccountRoutes(database, cookies, visitors, passwords).routes(),
        *PasswordRoutes(database, cookies, visitors, passwords).routes(),
        *AdminRoutes(database, protection.passwords, access).routes(),
        *AdminCredentialRoutes(database, protection.passwords, access, services.web.base_url).routes(),
        *TokenRoutes(database, visitors).routes(),
        *BootstrapRoutes(database, cookies, protection).routes(),
        *ForwardRoutes(visitors, cookies, services.web).routes(),
        *HealthRoutes(database, version=services.version, instance_id=services.instance_id).routes(),
        *page_routes(),
    ]


async def _routing_error(request: Request, error: Exception) -> Response:
    """Return the router's 404, or 405 with Allow; below ``/api/auth/`` always better-auth's empty 404."""
    if not isinstance(error, HTTPException):
        raise error
    if request.url.path.startswith(AUTH_PREFIX):
        return empty(404)
    if error.status_code == 405:  # noqa: PLR2004 - the status is its own name
        body = {"message": f"Method {request.method} is not allowed for this path", "code": "METHOD_NOT_ALLOWED"}
    else:
        body = {"message": "No such path", "code": "NOT_FOUND"}
    return json_response(body, status=error.status_code, headers=error.headers)
