"""The record of attempts to sign in: lines of the log for fail2ban, and rows of ``audit_log``.

Each has the client's address and a code, never what the client sent. An attack can make as many attempts as it
likes; the rows, and the lines of refused attempts, are limited by a `Budget`, which counts what it omits.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from starlette.requests import Request

from mosaic_gateway.auth.users import record_action
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.messages import client_address

__all__ = ["SUCCEEDED", "Budget", "SignInRecord"]

logger = logging.getLogger("mosaic_gateway.sign_in")  # docs/howto/block-attackers-with-fail2ban.md has it

SUCCEEDED = "sign-in.succeeded"
FAILED = "sign-in.failed"
REFUSED = "sign-in.refused"
CHECK_FAILED = "password.check-failed"
FAILED_BURST, REFUSED_BURST = 100, 20
SECONDS_EACH = 30.0  # after the burst, a record each 30 seconds: 2,880 a day


class Budget:
    """*burst* records at once, later one in each *seconds_each*. *clock* returns seconds."""

    def __init__(self, burst: int, seconds_each: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._each = seconds_each
        self._clock = clock
        self._left = float(burst)
        self._at = clock()
        self._omitted = 0

    def take(self) -> int | None:
        """Return how many records have been omitted before this one, None if this one is to be omitted too."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) / self._each)
        self._at = now
        if self._left < 1:
            self._omitted += 1
            return None
        self._left -= 1
        omitted, self._omitted = self._omitted, 0
        return omitted


class SignInRecord:
    """Records failed and refused attempts; a success is recorded in the transaction that creates its session."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._failed = Budget(FAILED_BURST, SECONDS_EACH)
        self._refused = Budget(REFUSED_BURST, SECONDS_EACH)

    async def failed(self, request: Request, code: str, *, user_id: str | None = None) -> None:
        """Record that *request* failed with the error *code*; *user_id* is the account's, if there is one."""
        _log(request, code)
        await self._insert(self._failed, FAILED, request, {"code": code}, user_id)

    async def check_failed(self, request: Request, code: str, user_id: str) -> None:
        """Record that *user_id*, who is signed in, gave a wrong present password; the line is that of `failed`."""
        _log(request, code)
        await self._insert(self._failed, CHECK_FAILED, request, {"code": code}, user_id, actor_id=user_id)

    async def refused(self, request: Request, path: str, limit: str) -> None:
        """Record that *request* for *path* exceeded the *limit* of its address or account."""
        if await self._insert(self._refused, REFUSED, request, {"path": path, "limit": limit}, None):
            _log(request, "TOO_MANY_REQUESTS")

    async def _insert(
        self,
        budget: Budget,
        action: str,
        request: Request,
        details: dict[str, object],
        user_id: str | None,
        *,
        actor_id: str | None = None,
    ) -> bool:
        omitted = budget.take()
        if omitted is None:
            return False
        if omitted:
            details["omitted"] = omitted
        address = client_address(request) or None
        await self._database.write(
            lambda connection: record_action(
                connection, action, target=user_id, actor_id=actor_id, ip_address=address, details=details
            )
        )
        return True


def _log(request: Request, code: str) -> None:
    address = client_address(request) or "unknown"
    # The lines of one address, not those of all, count as similar where similar lines are limited.
    logger.warning("Sign-in failed: address=%s code=%s", address, code, extra={"throttle": f"sign-in {address}"})
