"""Devices from which an account has been signed in: a signed cookie, so that nothing about them is stored.

The cookie names the account by a digest. Its attempts to sign in are counted for the device; those of all other
clients together for the account, so that an attack on an account does not delay its owner on a known device.
"""

from __future__ import annotations

from mosaic_gateway.auth.better_auth_format import new_id
from mosaic_gateway.auth.cookies import Cookies

__all__ = ["KnownDevices"]

NAME = "known_device"
KIND = "device"  # distinguishes the signed text from a session token
MAX_AGE = 365 * 86400  # seconds
FIELDS = 3


class KnownDevices:
    """Issues and recognises the cookies of known devices."""

    def __init__(self, cookies: Cookies) -> None:
        self._cookies = cookies

    def cookie(self, email: str) -> str:
        """Return the Set-Cookie value after a sign-in to the account with the lower-case address *email*."""
        return self._cookies.signed(NAME, f"{KIND}:{self._digest(email)}:{new_id()}", MAX_AGE)

    def subject(self, email: str, cookie: str | None) -> str:
        """Return whose attempts on the account *email* are counted: ``device:…`` or ``account:…``.

        *cookie* is the Cookie header. The address need not be that of a user.
        """
        account = self._digest(email)
        fields = (self._cookies.read(NAME, cookie) or "").split(":")
        if len(fields) == FIELDS and fields[:2] == [KIND, account]:
            return f"{KIND}:{account}:{fields[2]}"
        return f"account:{account}"

    def _digest(self, email: str) -> str:
        return self._cookies.digest(f"account:{email}")
