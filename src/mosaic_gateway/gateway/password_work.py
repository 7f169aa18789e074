"""Hashing of passwords for requests, whose clients may disconnect while they wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from starlette.requests import ClientDisconnect, Request

from mosaic_gateway.auth.passwords import Hasher
from mosaic_gateway.auth.rate_limits import normal_address
from mosaic_gateway.gateway.messages import client_address

__all__ = ["PasswordWork"]

P = ParamSpec("P")
T = TypeVar("T")


class PasswordWork:
    """Runs the hashes of requests; the clients' addresses take turns."""

    def __init__(self, hasher: Hasher) -> None:
        self._hasher = hasher

    async def run(self, request: Request, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of *work*, or raise its exception. The body of *request* must have been read.

        Raises `TooBusyError`, and `ClientDisconnect` as soon as the client has gone; then a hash that has not begun
        is not computed.
        """
        gone = asyncio.ensure_future(_disconnected(request))
        await asyncio.sleep(0)  # lets it receive what has arrived already
        if gone.done():
            raise ClientDisconnect
        source = normal_address(client_address(request))
        hashing = asyncio.ensure_future(self._hasher.run(source, work, *args, **kwargs))
        try:
            await asyncio.wait((hashing, gone), return_when=asyncio.FIRST_COMPLETED)
            if not hashing.done():
                raise ClientDisconnect
            return hashing.result()
        finally:
            hashing.cancel()
            gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
