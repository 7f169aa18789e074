"""The HTML pages and their assets: static files, served as written.

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

__all__ = ["missing_page", "page_routes"]

#: Path → HTML file. The views of the console are one page, whose module displays the view of the path.
PAGES: Mapping[str, str] = {
    "/": "console.html",
    "/people": "console.html",
    "/activity": "console.html",
    "/account": "console.html",
    "/setup": "setup.html",
    "/reset-password": "reset.html",
}
MISSING = "missing.html"
TYPES: Mapping[str, str] = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".html": "text/html"}
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
CONTENTS: Mapping[str, bytes] = {
    asset.name: asset.read_bytes() for asset in ASSETS.iterdir() if asset.name.endswith(tuple(TYPES))
}


def page_routes() -> list[Route]:
    """Return a route for each page and asset."""
    assets = {f"/assets/{name}": name for name in CONTENTS if not name.endswith(".html")}
    return [_route(path, name) for path, name in {**PAGES, **assets}.items()]


def missing_page(request: Request) -> Response | None:
    """Return the page for a path that does not exist (404), None if the client does not ask for HTML."""
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return None
    return Response(CONTENTS[MISSING], 404, HEADERS, _media_type(MISSING))


def _route(path: str, name: str) -> Route:
    content = CONTENTS[name]
    headers = {**HEADERS, "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}

    async def serve(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(None, 304, headers)
        return Response(content, 200, headers, _media_type(name))

    return Route(path, serve, methods=["GET"])


def _media_type(name: str) -> str:
    return f"{TYPES[name[name.rindex('.') :]]}; charset=utf-8"
