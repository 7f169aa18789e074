"""Limits of requests that check a password or a token, and the record of refused and failed ones."""

from __future__ import annotations

import asyncio
import math

from psycopg import AsyncConnection
from starlette.requests import Request

from mosaic_gateway.auth import rate_limits
from mosaic_gateway.auth.known_devices import KnownDevices
from mosaic_gateway.auth.rate_limits import normal_address
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError, client_address
from mosaic_gateway.gateway.sign_in_record import SignInRecord

__all__ = ["RequestLimits", "TooManyRequestsError"]

DELAY = 0.1  # seconds
REMEMBERED = 10_000  # refused addresses


class TooManyRequestsError(ApiError):
    """The limit of an address or an account is exceeded; another request may be accepted after *seconds*."""

    def __init__(self, seconds: int) -> None:
        message = "Too many requests. Please try again later."
        super().__init__(429, "", message, {"x-retry-after": str(seconds)})


class RequestLimits:
    """Counts requests, three in ten seconds for each address and path, and attempts on an account.

    An address that has been refused is refused until its time has come without a question to the database, and after
    `DELAY`: a flood over a number of connections so costs little.
    """

    def __init__(self, database: Database, devices: KnownDevices, record: SignInRecord) -> None:
        self._database = database
        self._devices = devices
        self._record = record
        self._refused: dict[tuple[str, str], float] = {}  # address and path → the loop's time at which it ends

    async def require(self, request: Request, path: str, *, email: str | None = None) -> str | None:
        """Count *request* for *path* (below ``/api/auth``) and its address, and for the account *email* if given.

        Returns whose attempts on the account were counted, for `succeeded`. Costs one statement.
        Raises `TooManyRequestsError`, `DatabaseUnavailableError`.
        """
        address = normal_address(client_address(request))
        await self._refuse_again(address, path)
        account = None if email is None else self._devices.subject(email, request.headers.get("cookie"))
        refusal = await self._database.read(
            lambda connection: rate_limits.consume(connection, path, address=address, account=account)
        )
        if refusal is not None:
            if refusal.limit == "address":
                self._remember(address, path, refusal.seconds)
            await self._record.refused(request, path, refusal.limit)
            raise TooManyRequestsError(refusal.seconds)
        return account

    async def _refuse_again(self, address: str, path: str) -> None:
        seconds = self._refused.get((address, path), 0) - asyncio.get_running_loop().time()
        if seconds > 0:
            await asyncio.sleep(DELAY)
            raise TooManyRequestsError(math.ceil(seconds))

    def _remember(self, address: str, path: str, seconds: int) -> None:
        now = asyncio.get_running_loop().time()
        if len(self._refused) >= REMEMBERED:
            self._refused = {key: until for key, until in self._refused.items() if until > now}
        if len(self._refused) < REMEMBERED:
            self._refused[address, path] = now + seconds

    async def succeeded(self, connection: AsyncConnection, path: str, attempts: str | None) -> None:
        """Forget the *attempts* that `require` counted, after one with the right password."""
        if attempts is not None:
            await rate_limits.forget(connection, path, attempts)
