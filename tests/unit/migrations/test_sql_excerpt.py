from __future__ import annotations

import pytest

from mosaic_gateway.migrations.sql_excerpt import excerpt, line_in_block


def rows(sql: str, line: int | None = None, column: int | None = None, first_line: int = 9) -> list[str]:
    """Return what is shown, row by row."""
    return excerpt(sql, first_line=first_line, line=line, column=column).split("\n")[1:]


def test_the_place_is_marked_below_its_line() -> None:
    """With two lines before it, and numbers as in the file."""
    assert rows("a\nb\nc\nwrong here\nd", 12, 7) == [
        "  10 | b",
        "  11 | c",
        "  12 | wrong here",
        "     |       ^",
    ]


@pytest.mark.parametrize(("text", "column", "below"), [("\tab", 3, "\t ^"), ("日本 x", 4, "     ^"), ("é x", 3, "  ^")])
def test_the_mark_stands_below_its_character(text: str, column: int, below: str) -> None:
    """Whatever the terminal makes of the characters before it: tabs, and those that are two columns wide."""
    assert rows(text, 9, column) == [f"  9 | {text}", f"    | {below}"]


def test_of_a_long_line_the_part_around_the_place_is_shown() -> None:
    """Cut on both sides, and the mark is still right."""
    shown, mark = rows("x" * 3000 + "!" + "y" * 3000, 9, 3001)
    assert shown[mark.index("^")] == "!"
    assert len(shown) < 120
    assert (shown[6], shown[-1]) == ("…", "…")


def test_without_a_place_the_first_lines_are_shown() -> None:
    """And how many there are beyond."""
    assert rows("a\nb") == ["   9 | a", "  10 | b"]
    assert rows("\n".join("abcdefgh"))[-2:] == ["  14 | f", "     | … 2 more lines"]


def test_a_line_without_a_column_is_pointed_at() -> None:
    """As a DO block gives it."""
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
def test_a_line_in_a_block_is_one_of_the_statement(sql: str, line: int | None) -> None:
    """PostgreSQL counts from where the block's text begins."""
    assert line_in_block(sql, "PL/pgSQL function inline_code_block line 3 at SQL statement") == line
    assert line_in_block(sql, "SQL function f") is None
