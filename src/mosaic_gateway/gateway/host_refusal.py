"""The responses to a request whose Host header is malformed (400) or not one of the gateway's (421)."""

from __future__ import annotations

import html

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from mosaic_gateway.gateway.refusal_page import refusal_page

__all__ = ["malformed_host", "refused_host"]

TEXT = """<p>It answers only at its own addresses, so that other websites cannot use it under a name of theirs.</p>
<p>If you run this gateway and want to reach it at this address, add one line to <code>config.toml</code> in its home,
with <code>https</code> if your address bar shows it, and restart the gateway:</p>
<pre>base_url = "%s"</pre>
<p>or, if there is another <code>base_url</code> already:</p>
<pre>trusted_origins = ["%s"]</pre>
<p>Otherwise ask the person who runs it which address to use.</p>"""
SECURITY = {"x-content-type-options": "nosniff", "cache-control": "no-store"}


async def malformed_host(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond 400: no Host header, several, or one that is no host."""
    body = {"message": "The Host header is missing or malformed", "code": "INVALID_HOST"}
    await JSONResponse(body, 400, SECURITY)(scope, receive, send)


async def refused_host(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond 421: a page for a browser, JSON for other clients, with the setting to change."""
    request = Request(scope)
    host, scheme = request.headers["host"], request.url.scheme
    if "text/html" in request.headers.get("accept", ""):
        name, origin = html.escape(host), html.escape(f"{scheme}://{host}")
        heading = f"This gateway does not know the address {name}"
        response = refusal_page(421, "Unknown address", heading, TEXT % (origin, origin))
    else:
        message = f"{host} is not an address of this gateway. If it should be, add it to trusted_origins in config.toml"
        response = JSONResponse({"message": message, "code": "HOST_NOT_ALLOWED"}, 421, SECURITY)
    await response(scope, receive, send)
