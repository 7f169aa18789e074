"""The HTTP application, and its error responses for paths without a route."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from mosaic_gateway.auth.passwords import Hasher
from mosaic_gateway.gateway.database import Database, make_pool
from mosaic_gateway.gateway.messages import empty, json_response
from mosaic_gateway.gateway.pages import missing_page
from mosaic_gateway.gateway.request_boundary import RequestBoundary
from mosaic_gateway.gateway.routing import connected_routes
from mosaic_gateway.gateway.services import Services
from mosaic_gateway.gateway.sweep import sweep_regularly

__all__ = ["Services", "create_app", "make_pool"]

AUTH_PREFIX = "/api/auth/"


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
        routes=connected_routes(services, database, hasher),
        lifespan=lifespan,
        exception_handlers={HTTPException: _routing_error},
    )
    app.router.redirect_slashes = False  # better-auth answers 404 to a trailing slash
    app.add_middleware(RequestBoundary, services.web)
    return app


async def _routing_error(request: Request, error: Exception) -> Response:
    """Return the router's 404, or 405 with Allow; below ``/api/auth/`` always better-auth's empty 404.

    A browser gets a page instead of the JSON of a 404.
    """
    if not isinstance(error, HTTPException):
        raise error
    if request.url.path.startswith(AUTH_PREFIX):
        return empty(404)
    if error.status_code == 405:  # noqa: PLR2004 - the status is its own name
        body = {"message": f"Method {request.method} is not allowed for this path", "code": "METHOD_NOT_ALLOWED"}
    elif (page := missing_page(request)) is not None:
        return page
    else:
        body = {"message": "No such path", "code": "NOT_FOUND"}
    return json_response(body, status=error.status_code, headers=error.headers)
