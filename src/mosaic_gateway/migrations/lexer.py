"""The part of PostgreSQL's lexical rules that is needed to split and recognise statements. Pure.

Source: PostgreSQL 18, "Lexical Structure" and ``scan.l``, with ``standard_conforming_strings`` on. It
determines whether a text ends outside of quotes and comments, so that other text may follow it; where its
top-level semicolons are; and with which words each statement begins. It does not interpret statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Lexed", "Token", "lex"]

# Letters, _ and every character beyond ASCII; then digits too, and in a word $. As exclusions, they compile in 0.1 ms
# instead of 20: a large part of a command's start.
DOLLAR_QUOTE = re.compile(r"\$(?:[^\x00-@\[-^`{-\x7f][^\x00-/:-@\[-^`{-\x7f]*)?\$")
WORD = r"[^\x00-@\[-^`{-\x7f][^\x00-#%-/:-@\[-^`{-\x7f]*"
#: White space and line comments, and the word after them: most tokens are words.
WORD_AFTER_SPACE = re.compile(rf"(?:\s+|--[^\n\r]*)*({WORD})?")
NUMBER = re.compile(r"\d[\w.]*")
#: Prefixes of string constants: only E'…' has backslash escapes; B'…', X'…', N'…' and U&'…' do not.
ESCAPED = {"e"}
#: Words that begin or end a block of statements in the body of an SQL function.
BLOCK_WORDS = {"atomic", "case", "end"}
PREFIXES = {"e", "b", "x", "n"}


class Token(NamedTuple):
    """A word (in lower case), a quoted identifier, a string constant, or a single other character.

    ``kind`` is ``word``, ``name``, ``text`` or ``other`` respectively; ``text`` is the value without quotes. A named
    tuple, because it is created for every word of a bundle, several times as fast as a dataclass.
    """

    kind: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Lexed:
    """The tokens of a text. ``closed``: the text ends outside of quotes and comments."""

    tokens: tuple[Token, ...]
    closed: bool

    def statements(self) -> tuple[tuple[Token, ...], ...]:
        """Return the tokens of each statement, split at top-level semicolons; empty statements are left out."""
        return tuple(tokens for tokens, _ in self.segments())

    def segments(self) -> tuple[tuple[tuple[Token, ...], int | None], ...]:
        """Return the tokens of each statement and the position of its semicolon, None if it ends without one.

        A semicolon inside parentheses or between BEGIN ATOMIC and END belongs to its statement.
        """
        segments: list[tuple[tuple[Token, ...], int | None]] = []
        current: list[Token] = []
        depth = atomic = 0
        for index, token in enumerate(self.tokens):
            kind, text, position = token
            if kind == "other":
                if text == ";" and depth <= 0 and not atomic:
                    segments.append((tuple(current), position))
                    current = []
                    continue
                if text in "([":
                    depth += 1
                elif text in ")]":
                    depth -= 1
            elif kind == "word" and text in BLOCK_WORDS:
                if _begins_atomic(self.tokens, index) or (atomic and text == "case"):
                    atomic += 1
                elif atomic and text == "end":
                    atomic -= 1
            current.append(token)
        segments.append((tuple(current), None))
        return tuple(segment for segment in segments if segment[0])


def lex(sql: str) -> Lexed:
    """Return the tokens of *sql*. Never raises: an unterminated quote or comment extends to the end of the text."""
    scanner = _Scanner(sql)
    tokens = tuple(scanner.tokens())
    return Lexed(tokens, scanner.closed)


def _begins_atomic(tokens: tuple[Token, ...], index: int) -> bool:
    return (
        tokens[index].kind == "word"
        and tokens[index].text == "atomic"
        and index > 0
        and tokens[index - 1].kind == "word"
        and tokens[index - 1].text == "begin"
    )


class _Scanner:
    """Single-pass scanner."""

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._position = 0
        self.closed = True

    def tokens(self) -> Iterator[Token]:
        sql = self._sql
        while match := WORD_AFTER_SPACE.match(sql, self._position):
            self._position = match.end()
            if match[1] is not None:
                yield self._word(match[1].lower(), match.start(1))
            elif self._position == len(sql):
                return
            elif token := self._other():
                yield token

    def _other(self) -> Token | None:
        """Return the token that is no word at the position; None for a comment."""
        sql, start = self._sql, self._position
        if sql.startswith("/*", start):
            self._block_comment()
            return None
        if match := DOLLAR_QUOTE.match(sql, start):
            return self._until(match[0], match.end(), "text", start)
        if sql[start] == "'":
            return self._quoted("'", start + 1, "text", start, escapes=False)
        if sql[start] == '"':
            return self._quoted('"', start + 1, "name", start, escapes=False)
        if match := NUMBER.match(sql, start):
            self._position = match.end()
            return Token("other", match[0], start)
        self._position = start + 1
        return Token("other", sql[start], start)

    def _word(self, word: str, start: int) -> Token:
        """Return the token that begins with *word*, before the position: the word, or a string with it as a prefix."""
        end = self._position
        if word in PREFIXES and self._sql.startswith("'", end):
            return self._quoted("'", end + 1, "text", start, escapes=word in ESCAPED)
        if word == "u" and self._sql.startswith("&'", end):
            return self._quoted("'", end + 2, "text", start, escapes=False)
        if word == "u" and self._sql.startswith('&"', end):
            return self._quoted('"', end + 2, "name", start, escapes=False)
        return Token("word", word, start)

    def _quoted(self, quote: str, at: int, kind: str, start: int, *, escapes: bool) -> Token:
        sql, parts = self._sql, []
        while at < len(sql):
            if escapes and sql[at] == "\\":
                parts.append(sql[at : at + 2])
                at += 2
            elif sql.startswith(quote * 2, at):
                parts.append(quote)
                at += 2
            elif sql[at] == quote:
                self._position = at + 1
                return Token(kind, "".join(parts), start)
            else:
                parts.append(sql[at])
                at += 1
        return self._unclosed(kind, "".join(parts), start)

    def _until(self, end: str, at: int, kind: str, start: int) -> Token:
        end_position = self._sql.find(end, at)
        if end_position < 0:
            return self._unclosed(kind, self._sql[at:], start)
        self._position = end_position + len(end)
        return Token(kind, self._sql[at:end_position], start)

    def _block_comment(self) -> None:
        """Skip a block comment, which may contain nested ones."""
        depth, at = 1, self._position + 2
        while depth:
            opening, closing = self._sql.find("/*", at), self._sql.find("*/", at)
            if closing < 0:
                self.closed = False
                self._position = len(self._sql)
                return
            if 0 <= opening < closing:
                depth, at = depth + 1, opening + 2
            else:
                depth, at = depth - 1, closing + 2
        self._position = at

    def _unclosed(self, kind: str, text: str, start: int) -> Token:
        self.closed = False
        self._position = len(self._sql)
        return Token(kind, text, start)
