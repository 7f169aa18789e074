"""Names and strings as SQL text, for statements that are composed and sent without parameters. Pure."""

from __future__ import annotations

__all__ = ["quote_name", "quote_text"]


def quote_text(value: str) -> str:
    """Return *value* as an SQL string constant, correct for either value of ``standard_conforming_strings``."""
    if "\\" in value:
        return " E'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + value.replace("'", "''") + "'"


def quote_name(value: str) -> str:
    """Return *value* as a quoted SQL identifier."""
    return '"' + value.replace('"', '""') + '"'
