"""Traits of a statement that decide how the runner sends it, derived from its tokens. Pure.

They decide whether a statement is sent alone or together with others, and whether settings are saved after it.
That a statement cannot run in a transaction block is reported by PostgreSQL (SQLSTATE 25001), not derived here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mosaic_gateway.migrations.lexer import Lexed, Token, lex
from mosaic_gateway.migrations.side_effects import (
    creates_temporary,
    first_words,
    is_word,
    may_set_session,
    sets_session,
)

__all__ = ["AUTHORIZATION", "StatementTraits", "first_words", "is_word", "only_statement", "traits_of"]

TRANSACTION_CONTROL = {"begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"}
#: Refused: another session user may lack the privilege to write progress and ledger.
AUTHORIZATION = "set session authorization"
CACHE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTraits:
    """How a chunk may be sent.

    ``closed``: it ends outside of quotes and comments, so that other text may follow it.
    ``control``: the leading words of a statement in it that begins or ends a transaction or changes the session
    user; None if there is none.
    ``sets_session``: it changes settings or the role for the following statements.
    ``captures``: it does so, or calls functions that may; the settings are saved after it.
    ``temporary``: it creates temporary objects, which do not exist in another session.
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
        temporary=any(map(creates_temporary, statements)) or "pg_temp" in sql.lower(),
    )


def _control(leading: list[tuple[str, ...]]) -> str | None:
    for words in leading:
        if words and (words[0] in TRANSACTION_CONTROL or words[:2] == ("prepare", "transaction")):
            return words[0]
        if words[:3] == ("set", "session", "authorization"):
            return AUTHORIZATION
    return None


def only_statement(sql: str) -> tuple[Token, ...] | None:
    """Return the tokens of the single statement in *sql*, None if there is none or more than one."""
    lexed: Lexed = lex(sql)
    statements = lexed.statements()
    return statements[0] if lexed.closed and len(statements) == 1 else None
