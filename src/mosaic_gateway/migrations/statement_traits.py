"""What the runner must know of a statement before it sends it, read off its words. Pure.

Only what decides *how* to send it is read here: alone or with others, with which care. That a
statement cannot run in a transaction is left to PostgreSQL to say (SQLSTATE 25001).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mosaic_gateway.migrations.lexer import Lexed, Token, lex
from mosaic_gateway.migrations.side_effects import first_words, is_word, makes_temporary, may_set_session, sets_session

__all__ = ["AUTHORIZATION", "StatementTraits", "first_words", "is_word", "only_statement", "traits_of"]

TRANSACTION_CONTROL = {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"}
#: In this session somebody else's statements run, and may not write our records.
AUTHORIZATION = "set session authorization"
CACHE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTraits:
    """How a chunk may be sent.

    ``closed``: it ends outside of quotes and comments, so that other text may follow it.
    ``control``: the words with which a statement in it begins or ends a transaction, or takes on another
    session user, who may not write our records; None without such.
    ``sets_session``: it changes settings or the role for the statements that follow.
    ``captures``: it does, or calls what may do so: the settings are kept after it.
    ``temporary``: it makes temporary objects, which are gone in another session.
    """

    closed: bool
    control: str | None
    sets_session: bool
    captures: bool
    temporary: bool

    @property
    def plain(self) -> bool:
        """Whether it may share a message with other statements."""
        return self.closed and self.control is None and not self.captures and not self.temporary


@lru_cache(maxsize=CACHE)
def traits_of(sql: str) -> StatementTraits:
    """Return the traits of a chunk."""
    lexed = lex(sql)
    statements = lexed.statements()
    sets = any(map(sets_session, statements)) or "set_config" in sql.lower()
    return StatementTraits(
        closed=lexed.closed,
        control=_control([first_words(statement, 4) for statement in statements]),
        sets_session=sets,
        captures=sets or any(map(may_set_session, statements)),
        temporary=any(map(makes_temporary, statements)) or "pg_temp" in sql.lower(),
    )


def _control(leading: list[tuple[str, ...]]) -> str | None:
    for words in leading:
        if words and (words[0] in TRANSACTION_CONTROL or words[:2] == ("prepare", "transaction")):
            return words[0]
        if words[:3] == ("set", "session", "authorization"):
            return AUTHORIZATION
    return None


def only_statement(sql: str) -> tuple[Token, ...] | None:
    """Return the tokens of the one statement in *sql*, None where it holds none or several."""
    lexed: Lexed = lex(sql)
    statements = lexed.statements()
    return statements[0] if lexed.closed and len(statements) == 1 else None
