"""Excerpts of a failing statement for error messages: lines numbered as in the file, the position marked. Pure."""

from __future__ import annotations

import re
import unicodedata

from mosaic_gateway.migrations.lexer import lex

__all__ = ["excerpt", "line_in_block"]

BEFORE = 2  # lines shown before the failing line
FIRST = 6  # lines shown if PostgreSQL reports no position
WIDTH = 100  # characters shown of each line
#: How PostgreSQL's context names a line in a DO block; it reports no position for it.
IN_BLOCK = re.compile(r"inline_code_block line (\d+)")


def excerpt(sql: str, *, first_line: int, line: int | None, column: int | None) -> str:
    """Return the lines of *sql* around *line*, each preceded by a newline; *sql* begins at *first_line* of its file.

    Without *line* the first lines are returned. *column* counts characters from 1.
    """
    lines = sql.splitlines()
    at = None if line is None else min(max(line - first_line, 0), len(lines) - 1)
    begin, end = (0, FIRST) if at is None else (max(at - BEFORE, 0), at + 1)
    margin = len(str(first_line + min(end, len(lines)) - 1)) + 2
    shown = []
    for index, text in enumerate(lines[begin:end], begin):
        left = 0 if index != at or column is None else max(column - WIDTH * 3 // 4, 0)
        sign = ">" if index == at and column is None else " "
        shown.append(f"{sign}{first_line + index:>{margin - 1}} | {_truncate(text, left)}")
        if index == at and column is not None:
            shown.append(f"{' ' * margin} | {_blank(text[left : column - 1], cut=left > 0)}^")
    if at is None and len(lines) > end:
        shown.append(f"{' ' * margin} | … {len(lines) - end} more lines")
    return "".join(f"\n{row}" for row in shown)


def line_in_block(sql: str, context: str) -> int | None:
    """Return the line of *sql* (from 1) that *context* names in its DO block, None if it cannot be determined."""
    match = IN_BLOCK.search(context)
    statements = lex(sql).statements()
    if match is None or len(statements) != 1:
        return None
    body = next((token for token in statements[0] if token.kind == "text"), None)
    return None if body is None else sql.count("\n", 0, body.position) + int(match[1])


def _truncate(text: str, left: int) -> str:
    begin = "…" if left else ""
    end = "…" if len(text) > left + WIDTH else ""
    return f"{begin}{text[left : left + WIDTH]}{end}"


def _blank(text: str, *, cut: bool) -> str:
    """Return white space that is as wide as *text* on a terminal."""
    wide = (" " * (2 if unicodedata.east_asian_width(letter) in "WF" else 1) for letter in text)
    tabbed = (letter if letter == "\t" else space for letter, space in zip(text, wide, strict=True))
    return (" " if cut else "") + "".join(tabbed)
