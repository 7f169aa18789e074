"""The HTML pages ``/`` and ``/setup`` and their assets: static files, served as written.

All files are read when this module is imported: afterwards the process may run as a user who cannot
read the package. The content security policy allows no inline code and no other origin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from importlib_resources import files
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

__all__ = ["page_routes"]

PATHS: Mapping[str, tuple[str, str]] = {
    "/": ("index.html", "text/html"),
    "/setup": ("setup.html", "text/html"),
    "/assets/style.css": ("style.css", "text/css"),
    "/assets/gateway.js": ("gateway.js", "text/javascript"),
    "/assets/index.js": ("index.js", "text/javascript"),
    "/assets/setup.js": ("setup.js", "text/javascript"),
    "/assets/icon.svg": ("icon.svg", "image/svg+xml"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}
ASSETS = files("mosaic_gateway.gateway") / "assets"
CONTENTS: Mapping[str, bytes] = {path: (ASSETS / name).read_bytes() for path, (name, _) in PATHS.items()}


def page_routes() -> list[Route]:
    """Return a route for each page and asset."""
    return [_route(path, CONTENTS[path], kind) for path, (_, kind) in PATHS.items()]


def _route(path: str, content: bytes, media_type: str) -> Route:
    headers = {**HEADERS, "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(None, 304, headers)
        return Response(content, 200, headers, f"{media_type}; charset=utf-8")

    return Route(path, serve, methods=["GET"])
