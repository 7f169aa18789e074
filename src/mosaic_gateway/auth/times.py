"""Times in the format of the tables and the JavaScript client: UTC without zone, whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso", "utc_now"]


def utc_now() -> datetime:
    """Return the current UTC time without zone, truncated to milliseconds (the precision of a JavaScript Date)."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS.mmmZ``; the JavaScript client misparses any other number of fractional digits."""
    return moment.isoformat(timespec="milliseconds") + "Z"
