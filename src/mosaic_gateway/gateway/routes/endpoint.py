"""A route that turns every exception of its endpoint into a response."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.messages import ApiError, answer_error, empty, json_response, with_pending_cookies
from mosaic_gateway.gateway.origin_check import check_origin

__all__ = ["Endpoint", "endpoint_route"]

logger = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
CLIENT_CLOSED = 499  # nginx's code for a client that disconnected; no one receives it


def endpoint_route(method: str | Sequence[str], path: str, endpoint: Endpoint, *, any_origin: bool = False) -> Route:
    """Return the route *path* for one or more methods, whose response has the request's pending cookies too.

    It first checks the origin of a state-changing request, unless it takes those of *any_origin*. An unforeseen
    exception of *endpoint* is logged and answered 500.
    """

    async def guarded(request: Request) -> Response:
        try:
            if not any_origin:
                check_origin(request)
            response = await endpoint(request)
        except (ApiError, MosaicError) as error:
            response = answer_error(error) or _internal_error(request, error)
        except ClientDisconnect:
            response = empty(CLIENT_CLOSED)
        except Exception as error:  # noqa: BLE001 - the boundary: a bug must not end the connection
            response = _internal_error(request, error)
        return with_pending_cookies(request, response)

    return Route(path, guarded, methods=[method] if isinstance(method, str) else method)


def _internal_error(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    body = {"message": "Internal error in the gateway; see its log", "code": "INTERNAL"}
    return json_response(body, status=500)
