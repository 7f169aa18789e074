"""Lists as text: columns with headings, and times with their zone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

__all__ = ["cut", "instant", "table"]


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, empty: str) -> tuple[str, ...]:
    """Return the lines of a table with *headings*, or *empty* if it has no rows."""
    if not rows:
        return (empty,)
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return tuple("  ".join(map(str.ljust, row, widths)).rstrip() for row in (headings, *rows))


def instant(at: datetime) -> str:
    """Return *at*, UTC without zone, to the minute and with its zone."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def cut(text: str, length: int = 60) -> str:
    """Return *text*, with an ellipsis at its end if it has more than *length* characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
