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
    """The statements are drizzle's chunks, in their order, less white space around them and empty ones."""
    assert [s.sql for s in split(text)] == [chunk.strip() for chunk in drizzle_chunks(text) if chunk.strip()]


@QUIET
@given(PIECES.map("".join))
def test_split_says_where_each_statement_begins(text: str) -> None:
    """At the line of a statement stands the statement, and the numbers count from 1."""
    statements = split(text)
    assert [s.number for s in statements] == list(range(1, len(statements) + 1))
    lines = text.split("\n")
    for statement in statements:
        assert statement.sql in "\n".join(lines[statement.line - 1 :])
        assert statement.sql.split("\n")[0] in lines[statement.line - 1]


@QUIET
@given(STATEMENTS, STATEMENTS)
def test_prefix_hash_tells_texts_and_boundaries_apart(left: list[Statement], right: list[Statement]) -> None:
    """Two prefixes have one hash exactly when their statements are the same ones."""
    same = [s.sql for s in left] == [s.sql for s in right]
    assert (prefix_hash(left, len(left)) == prefix_hash(right, len(right))) is same


@QUIET
@given(STATEMENTS, st.text(max_size=5), st.data())
def test_prefix_hash_ignores_the_tail(statements: list[Statement], other: str, data: st.DataObject) -> None:
    """What comes after the prefix does not count."""
    count = data.draw(st.integers(0, len(statements)))
    tail = Statement(number=count + 1, line=1, sql=other)
    assert prefix_hash(statements, count) == prefix_hash([*statements[:count], tail], count)


def test_file_hash_is_sha256_of_the_bytes() -> None:
    """The hash is drizzle's: markers, line ends and all."""
    content = f"SELECT 1;\r\n{BREAKPOINT}\nSELECT 'é';".encode()
    assert file_hash(content) == hashlib.sha256(content).hexdigest()


def test_journal_keeps_the_order_of_the_array() -> None:
    """``idx`` and ``when`` order nothing."""
    entries = [{"idx": 5, "when": 9, "tag": "b"}, {"idx": 0, "when": 3, "tag": "a"}]
    assert parse_journal(json.dumps({"entries": entries}).encode()) == (JournalEntry("b", 9), JournalEntry("a", 3))


@pytest.mark.parametrize(
    ("journal", "said"),
    [
        ("{", "not JSON"),
        ("[]", "entries"),
        ('{"entries": {}}', "entries"),
        ('{"entries": [7]}', "entry 0 has no usable tag"),
        ('{"entries": [{"tag": "", "when": 1}]}', "entry 0 has no usable tag"),
        ('{"entries": [{"tag": "../x", "when": 1}]}', "entry 0 has no usable tag"),
        ('{"entries": [{"tag": "a", "when": 1}, {"tag": "b"}]}', r"entry 1 \(b\) has no usable when"),
        ('{"entries": [{"tag": "a", "when": true}]}', "no usable when"),
        ('{"entries": [{"tag": "a", "when": 1}, {"tag": "a", "when": 2}]}', "named twice: a"),
    ],
)
def test_a_journal_of_another_form_is_refused(journal: str, said: str) -> None:
    """The error says which entry is wrong."""
    with pytest.raises(JournalFormatError, match=said):
        parse_journal(journal.encode())


def test_statements_are_cut_when_they_are_asked_for() -> None:
    """Until then there is only the text, and then they are those of `split`, however they are asked for."""
    text = f"a{BREAKPOINT}\n\nb{BREAKPOINT}\n c"
    for ask in (len, list, hash, tuple):
        statements = Statements(text)
        ask(statements)
        assert statements == split(text)
    assert Statements(text)[1:] == split(text)[1:]
    assert Statements(text)[-1] == split(text)[-1]
    assert Statements(text) != split("a")
