"""What protects the endpoints that check a password or a token; every route module takes it as one value."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.auth.cookies import Cookies
from mosaic_gateway.auth.known_devices import KnownDevices
from mosaic_gateway.auth.passwords import Hasher
from mosaic_gateway.gateway.database import Database
from mosaic_gateway.gateway.password_work import PasswordWork
from mosaic_gateway.gateway.request_limits import RequestLimits
from mosaic_gateway.gateway.sign_in_record import SignInRecord

__all__ = ["Protection"]


@dataclass(frozen=True, slots=True)
class Protection:
    """An endpoint calls ``limits.require``, then ``passwords.run``, and ``record.failed`` after a failure."""

    limits: RequestLimits
    passwords: PasswordWork
    record: SignInRecord
    devices: KnownDevices

    @classmethod
    def of(cls, database: Database, cookies: Cookies, hasher: Hasher) -> Protection:
        """Return the protection of one application."""
        devices, record = KnownDevices(cookies), SignInRecord(database)
        return cls(RequestLimits(database, devices, record), PasswordWork(hasher), record, devices)
