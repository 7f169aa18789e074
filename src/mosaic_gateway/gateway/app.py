"""The HTTP application: its routes and its error responses."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.passwords import Hasher
from mosaic_gateway.config import Secret
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.database import Database, make_pool
from mosaic_gateway.gateway.messages import ApiError, answer_error, empty, json_response
from mosaic_gateway.gateway.pages import page_routes
from mosaic_gateway.gateway.routes import AuthRoutes, BootstrapRoutes, HealthRoutes

__all__ = ["Services", "create_app", "make_pool"]

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
CLIENT_CLOSED = 499  # nginx's code for a client that disconnected; no one receives it
AUTH_PREFIX = "/api/auth/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The pool and the settings of the application, supplied by `run.server`.

    ``pool`` comes from `make_pool`. ``base_url`` is the public URL of the gateway.
    """

    pool: AsyncConnectionPool[AsyncConnection]
    auth_secret: Secret
    base_url: str
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
        try:
            yield
        finally:
            hasher.close()
            await services.pool.close()

    app = Starlette(
        routes=_routes(services, database, hasher),
        lifespan=lifespan,
        exception_handlers={HTTPException: _routing_error},
    )
    app.router.redirect_slashes = False  # better-auth answers 404 to a trailing slash
    return app


def _routes(services: Services, database: Database, hasher: Hasher) -> list[Route]:
    cookies = Cookies(services.auth_secret, services.base_url)
    auth = AuthRoutes(database, hasher, cookies)
    bootstrap = BootstrapRoutes(database, hasher, cookies)
    health = HealthRoutes(database, version=services.version, instance_id=services.instance_id)
    return [
        _route("GET", "/api/auth/get-session", auth.get_session),
        _route("POST", "/api/auth/sign-in/email", auth.sign_in),
        _route("POST", "/api/auth/sign-out", auth.sign_out),
        _route("GET", "/api/bootstrap/status", bootstrap.status),
        _route("POST", "/api/bootstrap/setup", bootstrap.setup),
        _route("GET", "/healthz", health.healthz),
        _route("GET", "/readyz", health.readyz),
        *page_routes(),
    ]


def _route(method: str, path: str, endpoint: Endpoint) -> Route:
    """Return a route that turns every exception of *endpoint* into a response."""

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (ApiError, MosaicError) as error:
            return answer_error(error) or _internal_error(request, error)
        except ClientDisconnect:
            return empty(CLIENT_CLOSED)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug must not end the connection
            return _internal_error(request, error)

    return Route(path, guarded, methods=[method])


def _internal_error(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    body = {"message": "Internal error in the gateway; see its log", "code": "INTERNAL"}
    return json_response(body, status=500)


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
