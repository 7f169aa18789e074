"""What the runner must know of a statement before it sends it, read off its words. Pure.

Only what decides *how* to send it is read here: alone or with others, with which care. That a
statement cannot run in a transaction is left to PostgreSQL to say (SQLSTATE 25001).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mosaic_gateway.migrations.lexer import Lexed, Token, lex

__all__ = ["Traits", "first_words", "is_word", "only_statement", "traits_of"]

TRANSACTION_CONTROL = {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"}
SESSION_WORDS = {"set", "reset", "discard"}
TEMPORARY = {"temp", "temporary"}
BEFORE_TEMPORARY = {"or", "replace", "local", "global"}
CACHE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How a chunk may be sent.

    ``closed``: it ends outside of quotes and comments, so that other text may follow it.
    ``control``: the word with which a statement in it begins or ends a transaction, None without one.
    ``sets_session``: it may change settings or the role for the statements that follow.
    ``temporary``: it makes temporary objects, which are gone in another session.
    ``ephemeral``: it does nothing but such things: nothing of it outlives the session.
    """

    closed: bool
    control: str | None
    sets_session: bool
    temporary: bool
    ephemeral: bool

    @property
    def plain(self) -> bool:
        """Whether it may share a message with other statements."""
        return self.closed and self.control is None and not self.sets_session and not self.temporary


@lru_cache(maxsize=CACHE)
def traits_of(sql: str) -> Traits:
    """Return the traits of a chunk."""
    lexed = lex(sql)
    statements = lexed.statements()
    leading = [first_words(statement, 4) for statement in statements]
    temporary = any(_makes_temporary(words) for words in leading) or any(map(_selects_into_temporary, statements))
    settings = [bool(words) and words[0] in SESSION_WORDS for words in leading]
    return Traits(
        closed=lexed.closed,
        control=_control(leading),
        sets_session=any(settings) or "set_config" in sql.lower(),
        temporary=temporary or "pg_temp" in sql.lower(),
        ephemeral=bool(leading)
        and all(_makes_temporary(words) or setting for words, setting in zip(leading, settings, strict=True)),
    )


def first_words(statement: tuple[Token, ...], count: int) -> tuple[str, ...]:
    """Return the first *count* tokens of a statement as far as they are unquoted words."""
    words = []
    for token in statement[:count]:
        if token.kind != "word":
            break
        words.append(token.text)
    return tuple(words)


def _control(leading: list[tuple[str, ...]]) -> str | None:
    for words in leading:
        if words and (words[0] in TRANSACTION_CONTROL or words[:2] == ("prepare", "transaction")):
            return words[0]
    return None


def _makes_temporary(words: tuple[str, ...]) -> bool:
    if not words or words[0] not in {"create", "declare"}:
        return False
    kind = next((word for word in words[1:] if word not in BEFORE_TEMPORARY), None)
    return words[0] == "declare" or kind in TEMPORARY


def _selects_into_temporary(statement: tuple[Token, ...]) -> bool:
    """SELECT … INTO TEMP, in any of its spellings."""
    places = (
        index
        for index, token in enumerate(statement)
        if is_word(token, "into") and index and not is_word(statement[index - 1], "insert", "merge")
    )
    return any(
        is_word(token, *TEMPORARY)
        for index in places
        for token in statement[index + 1 : index + 3]
        if token.kind == "word"
    )


def is_word(token: Token, *texts: str) -> bool:
    """Return whether *token* is one of the unquoted words *texts*."""
    return token.kind == "word" and token.text in texts


def only_statement(sql: str) -> tuple[Token, ...] | None:
    """Return the tokens of the one statement in *sql*, None where it holds none or several."""
    lexed: Lexed = lex(sql)
    statements = lexed.statements()
    return statements[0] if lexed.closed and len(statements) == 1 else None
