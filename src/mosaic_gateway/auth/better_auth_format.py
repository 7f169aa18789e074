"""Identifiers and times in better-auth's format, as in its tables and its JavaScript client."""

from __future__ import annotations

import secrets
import string
from datetime import UTC, datetime

__all__ = ["ID_LENGTH", "iso", "moment_of", "new_id", "utc_now"]

ID_LENGTH = 32
ALPHABET = string.ascii_letters + string.digits


def new_id() -> str:
    """Return a new identifier from the system's random source, suitable as a session token."""
    return "".join(secrets.choice(ALPHABET) for _ in range(ID_LENGTH))


def utc_now() -> datetime:
    """Return the current UTC time without zone, truncated to milliseconds (the precision of a JavaScript Date)."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS.mmmZ``; the JavaScript client misparses any other number of fractional digits."""
    return moment.isoformat(timespec="milliseconds") + "Z"


def moment_of(text: str) -> datetime:
    """Return the ISO 8601 time *text* as UTC without zone; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    try:
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except OverflowError as error:
        raise ValueError(text) from error
