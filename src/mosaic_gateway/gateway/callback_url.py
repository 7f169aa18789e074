"""The check of ``callbackURL``, by better-auth's rules: a path of the gateway, or a URL of a trusted origin."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from mosaic_gateway.gateway.messages import ApiError
from mosaic_gateway.gateway.web_settings import WebSettings

__all__ = ["check_callback_url"]

UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")
ENCODED_SEPARATOR = re.compile("%2f|%5c", re.IGNORECASE)


def check_callback_url(web: WebSettings, body: object) -> None:
    """Raise `ApiError` (403 INVALID_CALLBACK_URL) for a callbackURL in *body* that is not trusted."""
    url = body.get("callbackURL") if isinstance(body, dict) else None
    if not url:
        return
    if not isinstance(url, str):
        raise ApiError(400, "", "Invalid callbackURL: expected a string")
    if UNSAFE.search(url) or not (
        _is_path(url) or _origin(url) in {_origin(trusted) for trusted in (web.base_url, *web.trusted_origins)}
    ):
        raise ApiError(403, "INVALID_CALLBACK_URL", "Invalid callbackURL")


def _is_path(url: str) -> bool:
    path = re.split("[?#]", url, maxsplit=1)[0]
    return url.startswith("/") and not (url.startswith("//") or ENCODED_SEPARATOR.search(path))


def _origin(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.hostname}:{port or {'http': 80, 'https': 443}.get(parts.scheme)}"
