"""Limits of requests that check a password or a token, and the record of refused and failed ones."""

from __future__ import annotations

from starlette.requests import Request

from mosaic_gateway.auth import rate_limits
from mosaic_gateway.auth.known_devices import KnownDevices
from mosaic_gateway.auth.rate_limits import normal_address
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import ApiError, client_address
from mosaic_gateway.gateway.sign_in_record import SignInRecord

__all__ = ["RequestLimits", "TooManyRequestsError"]


class TooManyRequestsError(ApiError):
    """The limit of an address or an account is exceeded; another request may be accepted after *seconds*."""

    def __init__(self, seconds: int) -> None:
        message = "Too many requests. Please try again later."
        super().__init__(429, "", message, {"x-retry-after": str(seconds)})


class RequestLimits:
    """Counts requests, three in ten seconds for each address and path, and attempts on an account."""

    def __init__(self, database: Database, devices: KnownDevices, record: SignInRecord) -> None:
        self._database = database
        self._devices = devices
        self._record = record

    async def require(self, request: Request, path: str, *, email: str | None = None) -> str | None:
        """Count *request* for *path* (below ``/api/auth``) and its address, and for the account *email* if given.

        Returns whose attempts were counted (`rate_limits.forget` takes it after a success). Costs one statement.
        Raises `TooManyRequestsError`, `DatabaseUnavailableError`.
        """
        account = None if email is None else self._devices.subject(email, request.headers.get("cookie"))
        address = normal_address(client_address(request))
        refusal = await self._database.read(
            lambda connection: rate_limits.consume(connection, path, address=address, account=account)
        )
        if refusal is not None:
            await self._record.refused(request, path, refusal.limit)
            raise TooManyRequestsError(refusal.seconds)
        return account
