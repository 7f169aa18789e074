"""better-auth's protection from cross-site requests: which origins a state-changing request may come from.

The rules, codes and messages are those of better-auth 1.7 (``api/middlewares/origin-check``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from starlette.requests import Request

from mosaic_gateway.gateway.api_error import ApiError
from mosaic_gateway.gateway.origins import TrustedOrigins
from mosaic_gateway.gateway.request_boundary import request_origins

__all__ = ["check_origin", "check_urls"]

logger = logging.getLogger(__name__)

SHOWN = 200  # characters of a refused header in the log
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
#: Requests that sign in: checked without cookies too, so that no site signs its visitor in as another person.
SIGN_IN_PATHS = ("/api/auth/sign-in/", "/api/auth/sign-up/", "/api/bootstrap/setup")
FALSY = (None, False, 0, "")  # JSON values that JavaScript reads as false; an empty list is none of them
FETCH_METADATA = ("sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
#: Field with a URL → the code for one that is not trusted, and the name in its message.
URL_FIELDS: Mapping[str, tuple[str, str]] = {
    "callbackURL": ("INVALID_CALLBACK_URL", "callbackURL"),
    "redirectTo": ("INVALID_REDIRECT_URL", "redirectURL"),
    "errorCallbackURL": ("INVALID_ERROR_CALLBACK_URL", "errorCallbackURL"),
    "newUserCallbackURL": ("INVALID_NEW_USER_CALLBACK_URL", "newUserCallbackURL"),
}


def check_origin(request: Request) -> None:
    """Check where a state-changing *request* comes from.

    Raises `ApiError` (403): INVALID_ORIGIN, MISSING_OR_NULL_ORIGIN, CROSS_SITE_NAVIGATION_LOGIN_BLOCKED.
    """
    headers = request.headers
    if request.method in SAFE_METHODS:
        return
    if "cookie" in headers:
        _check(request)
    elif request.url.path.startswith(SIGN_IN_PATHS):
        if any(headers.get(name, "").strip() for name in FETCH_METADATA):
            if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") == "navigate":
                raise ApiError(
                    403, "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED",
                    "Cross-site navigation login blocked. This request appears to be a CSRF attack.",
                )  # fmt: skip
            _check(request)
        elif headers.get("origin") or headers.get("referer"):
            _check(request)


def check_urls(request: Request, body: object) -> None:
    """Check the URLs to which *body* (parsed) and the query of *request* ask to be sent.

    Raises `ApiError`: 403 for one that is not trusted (INVALID_CALLBACK_URL …), 400 for a value that is no string.
    """
    fields = body if isinstance(body, dict) else {}
    origins: TrustedOrigins | None = None
    for field, (code, label) in URL_FIELDS.items():
        url = fields.get(field)
        if url in FALSY and field == "callbackURL":
            url = request.query_params.get(field)
        if url in FALSY:
            continue
        if not isinstance(url, str):
            raise ApiError(400, "", f"Invalid {label}: expected a string")
        origins = origins or request_origins(request)
        if not origins.accepts_url(url):
            raise ApiError(403, code, f"Invalid {label}")


def _check(request: Request) -> None:
    """Raise unless Origin, or Referer without one, is trusted.

    A browser sends the Origin ``null`` with a form of our pages, because their referrer policy is ``no-referrer``.
    """
    origin = request.headers.get("origin")
    if origin == "null" and request.headers.get("sec-fetch-site") == "same-origin":
        return
    source = origin or request.headers.get("referer") or ""
    if not source or source == "null":
        raise ApiError(403, "MISSING_OR_NULL_ORIGIN", "Missing or null Origin")
    if not request_origins(request).accepts_origin(source):
        logger.warning(
            "Refused a request from the origin %r. If it is yours, set base_url or trusted_origins (config.toml);"
            " behind a proxy with TLS, trusted_proxies too.", source[:SHOWN],
        )  # fmt: skip
        raise ApiError(403, "INVALID_ORIGIN", "Invalid origin")
