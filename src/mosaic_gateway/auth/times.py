"""Times as the tables and the JavaScript client have them: UTC without zone, whole milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["iso", "utc_now"]


def utc_now() -> datetime:
    """Return the UTC wall clock without zone, cut to milliseconds (what a JavaScript Date holds)."""
    now = datetime.now(UTC).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def iso(moment: datetime) -> str:
    """Return ``YYYY-MM-DDTHH:MM:SS.mmmZ``; the JavaScript client misreads any other number of digits."""
    return moment.isoformat(timespec="milliseconds") + "Z"
