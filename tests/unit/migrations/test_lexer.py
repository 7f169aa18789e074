"""The lexer compared with PostgreSQL's own scanner, which `pglast` contains (if it is installed)."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.lexer import Token, lex

QUIET = settings(database=None, deadline=None, max_examples=400)
#: Fragments that combine quotes, dollar signs, comments and semicolons in any way.
PIECES = st.sampled_from(
    ["'", "''", '"', "$$", "$a$", "$1", "$", "/*", "*/", "--", "\n", ";", " ", "\\", "E'", "e", "U&'", 'U&"', "B'",
     "N'", "a", "é", "1", "1e5", "(", ")", "BEGIN", "ATOMIC", "END", "CASE",
     "SELECT 1", "x$$", "_", "+", "-", "/", "*"]
)  # fmt: skip
STATEMENTS = st.sampled_from(
    ["SELECT ';'", "select $$;$$", "SELECT 1 /* ; */", "UPDATE t SET a = E'\\';'", " ", "\n-- ;\n", "TABLE t",
     "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM a; DELETE FROM b)", "COMMIT", "BEGIN", "END",
     "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 END; END",
     "DO $x$ BEGIN NULL; END $x$", 'INSERT INTO "a;b" VALUES (1)', "VALUES ((1), (2))"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=14).map("".join)


def words(sql: str) -> list[tuple[str, str]]:
    """Return the kinds and texts of the tokens."""
    return [(token.kind, token.text) for token in lex(sql).tokens]


@QUIET
@given(TEXTS)
def test_any_text_is_scanned_to_its_end(text: str) -> None:
    """Token positions increase and are within the text; a closed text remains closed if a statement follows."""
    lexed = lex(text)
    positions = [token.position for token in lexed.tokens]
    assert positions == sorted(set(positions))
    assert all(0 <= position < max(len(text), 1) for position in positions)
    if lexed.closed:
        followed = lex(f"{text}\n;COMMIT;")
        assert followed.closed
        assert followed.tokens[-2:] == (
            Token("word", "commit", len(text) + 2), Token("other", ";", len(text) + 8)
        )  # fmt: skip
        assert followed.tokens[: len(lexed.tokens)] == lexed.tokens


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 'it''s'", [("word", "select"), ("text", "it's")]),
        ("E'a\\'b'", [("text", "a\\'b")]),
        ("'a\\'", [("text", "a\\")]),
        ("e'\\\\'", [("text", "\\\\")]),
        ('"A ""b"""', [("name", 'A "b"')]),
        ("$$a$b$$", [("text", "a$b")]),
        ("$a$ $$ $b$ $a$", [("text", " $$ $b$ ")]),
        ("a$b$c", [("word", "a$b$c")]),
        ("a$$b", [("word", "a$$b")]),
        ("$1", [("other", "$"), ("other", "1")]),
        ("1$$a$$", [("other", "1"), ("text", "a")]),
        ("/* a /* b */ c */d", [("word", "d")]),
        ("a--b\nc", [("word", "a"), ("word", "c")]),
        ("a--b\rc", [("word", "a"), ("word", "c")]),
        ("U&'\\0041'", [("text", "\\0041")]),
        ('U&"\\0041"', [("name", "\\0041")]),
        ("été", [("word", "été")]),
        ("N'a' B'1' X'F'", [("text", "a"), ("text", "1"), ("text", "F")]),
        ("\ufeffSELECT", [("word", "\ufeffselect")]),
        ("a\u00a0b", [("word", "a\u00a0b")]),
    ],
)
def test_lexical_rules(sql: str, expected: list[tuple[str, str]]) -> None:
    """The rules are those of "Lexical Structure" in PostgreSQL's manual."""
    assert words(sql) == expected
    assert lex(sql).closed


@pytest.mark.parametrize("sql", ["'a", "'a''", '"a', "E'a\\'", "$$a$", "$a$ $b$", "/* /* */", "U&'a", "x'a"])
def test_unterminated_text_is_not_closed(sql: str) -> None:
    """An unterminated quote or comment would include the text that follows."""
    assert not lex(sql).closed


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("", 0),
        (";;", 0),
        ("SELECT 1", 1),
        ("SELECT 1;", 1),
        ("SELECT 1; SELECT 2", 2),
        ("SELECT ';'; SELECT $$;$$; -- ;\n/* ; */", 2),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); SELECT 3", 2),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN a THEN 1 END; END; SELECT 2", 2),
        ("CREATE PROCEDURE p() BEGIN ATOMIC BEGIN ATOMIC SELECT 1; END; END; SELECT 2", 2),
        ("BEGIN; END; SELECT 1", 3),
        ("SELECT a.end FROM a; SELECT 1", 2),
    ],
)
def test_statements_are_split_as_in_postgresql(sql: str, count: int) -> None:
    """Statements end at semicolons outside of parentheses and SQL-standard function bodies."""
    assert len(lex(sql).statements()) == count


def _pglast() -> Any:
    if importlib.util.find_spec("pglast") is None:
        pytest.skip("pglast, of the extra 'lint', is not installed")
    import pglast.parser  # noqa: PLC0415 - optional

    return pglast.parser


@settings(QUIET, max_examples=2000)
@given(TEXTS)
@example("a$$b")
@example("1$$a$$")
@example("1E'")
@pytest.mark.slow
def test_closed_agrees_with_postgresqls_scanner(text: str) -> None:
    """A text is closed exactly if the scanner does not report it as unterminated; other errors are ignored."""
    parser = _pglast()
    assume(not re.search(r"\$\d", text))  # pglast's scanner has different rules for parameters
    try:
        parser.scan(text)
    except parser.ParseError as error:
        if "unterminated" in str(error):
            assert not lex(text).closed
    else:
        assert lex(text).closed


@settings(QUIET, max_examples=600)
@given(st.lists(STATEMENTS, max_size=5).map(";".join))
def test_statements_agree_with_postgresqls_parser(text: str) -> None:
    """Both find the same number of statements, which begin with the same words."""
    parser = _pglast()
    actual = [statement[0].text for statement in lex(text).statements()]
    expected = [lex(piece).tokens[0].text for piece in parser.split(text)]
    assert actual == expected
