"""The responses to a request whose Host header is malformed (400) or not one of the gateway's (421)."""

from __future__ import annotations

import html
from base64 import b64encode
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

__all__ = ["PAGE_SECURITY", "STYLE", "malformed_host", "refused_host"]

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;overflow-wrap:anywhere}"
)
STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Unknown address</title>
<style>%s</style>
</head>
<body>
<h1>This gateway does not know the address %s</h1>
<p>It answers only at its own addresses, so that other websites cannot use it under a name of theirs.</p>
<p>If you run this gateway and want to reach it at this address, add one line to <code>config.toml</code> in its home,
with <code>https</code> if your address bar shows it, and restart the gateway:</p>
<pre>base_url = "%s"</pre>
<p>or, if there is another <code>base_url</code> already:</p>
<pre>trusted_origins = ["%s"]</pre>
<p>Otherwise ask the person who runs it which address to use.</p>
</body>
</html>
"""
SECURITY = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
PAGE_SECURITY = {**SECURITY, "content-security-policy": POLICY, "referrer-policy": "no-referrer"}


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
        response: Response = Response(PAGE % (STYLE, name, origin, origin), 421, PAGE_SECURITY, "text/html")
    else:
        message = f"{host} is not an address of this gateway. If it should be, add it to trusted_origins in config.toml"
        response = JSONResponse({"message": message, "code": "HOST_NOT_ALLOWED"}, 421, SECURITY)
    await response(scope, receive, send)
