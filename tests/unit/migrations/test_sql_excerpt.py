from __future__ import annotations

import pytest

from mosaic_gateway.migrations.sql_excerpt import excerpt, line_in_block


def rows(sql: str, line: int | None = None, column: int | None = None, first_line: int = 9) -> list[str]:
    """Return the rows of the excerpt."""
    return excerpt(sql, first_line=first_line, line=line, column=column).split("\n")[1:]


def test_the_position_is_marked_below_its_line() -> None:
    """Two lines before it are shown, with line numbers of the file."""
    assert rows("a\nb\nc\nwrong here\nd", 12, 7) == [
        "  10 | b",
        "  11 | c",
        "  12 | wrong here",
        "     |       ^",
    ]


@pytest.mark.parametrize(("text", "column", "below"), [("\tab", 3, "\t ^"), ("日本 x", 4, "     ^"), ("é x", 3, "  ^")])
def test_the_mark_is_below_its_character(text: str, column: int, below: str) -> None:
    """The mark is aligned after tabs and characters that are two columns wide."""
    assert rows(text, 9, column) == [f"  9 | {text}", f"    | {below}"]


def test_a_long_line_is_truncated_around_the_position() -> None:
    """The line is truncated on both sides, and the mark is aligned."""
    shown, mark = rows("x" * 3000 + "!" + "y" * 3000, 9, 3001)
    assert shown[mark.index("^")] == "!"
    assert len(shown) < 120
    assert (shown[6], shown[-1]) == ("…", "…")


def test_without_a_position_the_first_lines_are_shown() -> None:
    """The number of further lines is shown."""
    assert rows("a\nb") == ["   9 | a", "  10 | b"]
    assert rows("\n".join("abcdefgh"))[-2:] == ["  14 | f", "     | … 2 more lines"]


def test_a_line_without_a_column_is_marked() -> None:
    """Errors in a DO block have a line but no column."""
    assert rows("a\nb\nc", 10) == ["   9 | a", "> 10 | b"]


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("DO $$\nBEGIN\n  x;\nEND $$", 3),
        ("-- first\nDO LANGUAGE plpgsql $a$ BEGIN\n  y;\n  x;\nEND $a$", 4),
        ("SELECT 1", None),
        ("SELECT 1; DO $$\nBEGIN\n  x;\nEND $$", None),
    ],
)
def test_a_line_in_a_block_is_converted_to_one_of_the_statement(sql: str, line: int | None) -> None:
    """PostgreSQL counts lines from the beginning of the block's text."""
    assert line_in_block(sql, "PL/pgSQL function inline_code_block line 3 at SQL statement") == line
    assert line_in_block(sql, "SQL function f") is None
