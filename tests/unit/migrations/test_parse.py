from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.model import Statement
from mosaic_gateway.migrations.parse import (
    BREAKPOINT,
    JournalEntry,
    JournalFormatError,
    Statements,
    file_hash,
    parse_journal,
    prefix_hash,
    split,
)

QUIET = settings(database=None, deadline=None, max_examples=150)
PIECES = st.lists(st.sampled_from([BREAKPOINT, "SELECT 1;", "\n", "\r\n", " ", "-- a\n", "\t", "-->", "é'", "x\ny"]))
STATEMENTS = st.lists(st.text(min_size=1, max_size=5), max_size=5).map(
    lambda texts: [Statement(number=number, line=1, sql=sql) for number, sql in enumerate(texts, 1)]
)


def drizzle_chunks(text: str) -> list[str]:
    """``query.split("--> statement-breakpoint")`` of drizzle-orm's ``migrator.ts``."""
    chunks = [""]
    rest = text
    while rest:
        if rest.startswith("--> statement-breakpoint"):
            rest = rest[len("--> statement-breakpoint") :]
            chunks.append("")
        else:
            chunks[-1] += rest[0]
            rest = rest[1:]
    return chunks


@QUIET
@given(PIECES.map("".join))
def test_split_is_drizzles_without_the_empty_chunks(text: str) -> None:
    """The statements are drizzle's chunks in the same order, stripped and without empty ones."""
    assert [s.sql for s in split(text)] == [chunk.strip() for chunk in drizzle_chunks(text) if chunk.strip()]


@QUIET
@given(PIECES.map("".join))
def test_split_returns_the_line_of_each_statement(text: str) -> None:
    """The statement begins on its line, and the numbers count from 1."""
    statements = split(text)
    assert [s.number for s in statements] == list(range(1, len(statements) + 1))
    lines = text.split("\n")
    for statement in statements:
        assert statement.sql in "\n".join(lines[statement.line - 1 :])
        assert statement.sql.split("\n")[0] in lines[statement.line - 1]


@QUIET
@given(STATEMENTS, STATEMENTS)
def test_prefix_hash_depends_on_texts_and_boundaries(left: list[Statement], right: list[Statement]) -> None:
    """Two prefixes have the same hash exactly if their statements are equal."""
    same = [s.sql for s in left] == [s.sql for s in right]
    assert (prefix_hash(left, len(left)) == prefix_hash(right, len(right))) is same


@QUIET
@given(STATEMENTS, st.text(max_size=5), st.data())
def test_prefix_hash_ignores_the_tail(statements: list[Statement], other: str, data: st.DataObject) -> None:
    """Statements after the prefix do not change its hash."""
    count = data.draw(st.integers(0, len(statements)))
    tail = Statement(number=count + 1, line=1, sql=other)
    assert prefix_hash(statements, count) == prefix_hash([*statements[:count], tail], count)


def test_file_hash_is_sha256_of_the_bytes() -> None:
    """The hash is drizzle's and includes markers and line ends."""
    content = f"SELECT 1;\r\n{BREAKPOINT}\nSELECT 'é';".encode()
    assert file_hash(content) == hashlib.sha256(content).hexdigest()


def test_journal_entries_are_in_array_order() -> None:
    """``idx`` and ``when`` do not affect the order."""
    entries = [{"idx": 5, "when": 9, "tag": "b"}, {"idx": 0, "when": 3, "tag": "a"}]
    assert parse_journal(json.dumps({"entries": entries}).encode()) == (JournalEntry("b", 9), JournalEntry("a", 3))


@pytest.mark.parametrize(
    ("journal", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "entries"),
        ('{"entries": {}}', "entries"),
        ('{"entries": [7]}', "entry 0 has no usable tag"),
        ('{"entries": [{"tag": "", "when": 1}]}', "entry 0 has no usable tag"),
        ('{"entries": [{"tag": "../x", "when": 1}]}', "entry 0 has no usable tag"),
        ('{"entries": [{"tag": "a", "when": 1}, {"tag": "b"}]}', r"entry 1 \(b\) has no usable when"),
        ('{"entries": [{"tag": "a", "when": true}]}', "no usable when"),
        ('{"entries": [{"tag": "a", "when": 1}, {"tag": "a", "when": 2}]}', "duplicate tag: a"),
    ],
)
def test_an_invalid_journal_is_refused(journal: str, message: str) -> None:
    """The error says which entry is invalid."""
    with pytest.raises(JournalFormatError, match=message):
        parse_journal(journal.encode())


def test_statements_are_split_on_first_access() -> None:
    """After access by any method the statements equal those of `split`."""
    text = f"a{BREAKPOINT}\n\nb{BREAKPOINT}\n c"
    for access in (len, list, hash, tuple):
        statements = Statements(text)
        access(statements)
        assert statements == split(text)
    assert Statements(text)[1:] == split(text)[1:]
    assert Statements(text)[-1] == split(text)[-1]
    assert Statements(text) != split("a")
