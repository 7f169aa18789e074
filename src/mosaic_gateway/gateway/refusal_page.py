"""A page without script or further files, for a browser whose request is refused before it reaches the console."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from starlette.responses import Response

__all__ = ["refusal_page"]

STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;overflow-wrap:anywhere}"
)
STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>%s</title>
<style>%s</style>
</head>
<body>
<h1>%s</h1>
%s
</body>
</html>
"""
HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
}


def refusal_page(status: int, title: str, heading: str, text: str) -> Response:
    """Return the page. All three texts are HTML: the caller escapes what comes from a request."""
    return Response(PAGE % (title, STYLE, heading, text), status, HEADERS, "text/html")
