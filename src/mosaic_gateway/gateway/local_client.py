"""A minimal HTTP client for requests to a gateway on the same machine."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.hint import command

__all__ = ["NoAnswerError", "ask"]

LIMIT = 5.0  # seconds


class NoAnswerError(MosaicError):
    """No process answers at the address, or the answer is not HTTP."""

    code = "NO_ANSWER"


def ask(url: str, path: str, *, body: Any = None, timeout: float = LIMIT) -> tuple[int, Any]:
    """Send one request to the gateway at *url* (GET, or POST of *body* as JSON); return status and JSON.

    The second value is None if the response body is not JSON. Raises `NoAnswerError`.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswerError(f"{url}{path} does not answer: {error}", hint="See the log: " + command("logs")) from error
    finally:
        connection.close()
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, None
