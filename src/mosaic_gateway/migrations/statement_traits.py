"""Traits of a chunk that decide how the runner sends it, derived from its tokens. Pure.

They decide whether a chunk is sent alone or together with others, whether settings are saved after it, and which
chunks share one transaction (`groups`). That a statement cannot run in a transaction block is reported by PostgreSQL
(SQLSTATE 25001); it is derived here only to refuse a file that needs a transaction for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from mosaic_gateway.migrations.transaction_control import (
    AUTHORIZATION,
    NO_MODES,
    Construct,
    TransactionBegin,
    TransactionEnd,
    TransactionModes,
    begin_of,
    end_of,
    refused_control,
    set_transaction_modes,
)
from mosaic_gateway.migrations.transaction_scope import (
    SCOPING_FUNCTIONS,
    block_tokens,
    config_calls,
    needs_earlier,
    needs_transaction,
    refuses_transaction,
    setting_names,
)

__all__ = ["AUTHORIZATION", "StatementTraits", "first_words", "is_word", "only_statement", "traits_of"]

Tokens = tuple[Token, ...]
CACHE = 4096
#: Words of which a chunk contains at least one if it has a trait that few chunks have.
RARE = SCOPING_FUNCTIONS | {
    "local", "transaction", "constraints", "lock", "savepoint", "release", "rollback", "abort", "prepare", "commit",
    "declare", "fetch", "move", "close", "copy", "current", "for", "do", "set_config", "authorization", "concurrently",
    "vacuum", "reindex", "system", "database", "tablespace", "subscription", "cluster", "discard",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTraits:
    """How a chunk may be sent.

    ``closed``: it ends outside of quotes and comments, so that other text may follow it.
    ``refused``: a statement in it that no migration may contain.
    ``sets_session``: it changes settings or the role for the following statements.
    ``captures``: it does so, or calls functions that may; the settings are saved after it.
    ``temporary``: it creates temporary objects, which do not exist in another session.
    ``begins``, ``ends``: the BEGIN that it starts with, and the COMMIT that it ends with (`transaction_control.cut`).
    ``modes``: modes of the SET TRANSACTION statements before its first query, which ``leading`` covers (offsets).
    ``queries``: it contains a query.
    ``scope``: the first statement whose effect ends with its transaction. ``earlier``: the first one that may need
    the transaction of earlier chunks. ``outside``: the first one that cannot run in a transaction block.
    ``local``, ``session``: settings that it changes for its transaction and for its session, None if they cannot all be
    determined.
    ``commands``: number of its statements, of which the server reports each.
    """

    closed: bool
    refused: Construct | None
    sets_session: bool
    captures: bool
    temporary: bool
    begins: TransactionBegin | None
    ends: TransactionEnd | None
    modes: TransactionModes
    leading: tuple[tuple[int, int], ...]
    queries: bool
    scope: Construct | None
    earlier: Construct | None
    outside: Construct | None
    local: frozenset[str] | None
    session: frozenset[str] | None
    commands: int

    @property
    def plain(self) -> bool:
        """Whether it may share a message with other statements."""
        return self.closed and self.refused is None and not self.captures and not self.temporary


@lru_cache(maxsize=CACHE)
def traits_of(sql: str) -> StatementTraits:
    """Return the traits of a chunk."""
    lexed = lex(sql)
    segments = [(tokens, len(sql) if end is None else end) for tokens, end in lexed.segments()]
    statements = [tokens for tokens, _ in segments]
    begins = begin_of(*segments[0]) if segments else None
    ends = end_of(*segments[-1]) if segments else None
    inner = segments[begins is not None : len(segments) - (ends is not None)]
    modes, leading = _leading_modes(inner)
    sets = any(map(sets_session, statements)) or _configures_session(sql, statements)
    searched = statements if any(token.text in RARE for token in lexed.tokens) else []
    return StatementTraits(
        closed=lexed.closed,
        refused=_first(refused_control, searched),
        sets_session=sets,
        captures=sets or any(map(may_set_session, statements)),
        temporary=any(map(creates_temporary, statements)) or "pg_temp" in sql.lower(),
        begins=begins,
        ends=ends,
        modes=modes,
        leading=leading,
        queries=any(_is_query(tokens) for tokens, _ in inner),
        scope=_first(needs_transaction, searched),
        earlier=_first(needs_earlier, searched),
        outside=_first(refuses_transaction, searched),
        local=_names(searched, local=True),
        session=_names(statements, local=False) if sets else frozenset(),
        commands=len(inner) - len(leading),
    )


def _first(recognise: Callable[[Tokens], str | None], statements: Sequence[Tokens]) -> Construct | None:
    for statement in statements:
        name = recognise(statement)
        if name is not None:
            return Construct(name, statement[0].position)
    return None


def _leading_modes(segments: Sequence[tuple[Tokens, int]]) -> tuple[TransactionModes, tuple[tuple[int, int], ...]]:
    """Return the modes of the SET TRANSACTION statements before the first query of *segments*, and where these are."""
    modes, spans = NO_MODES, []
    for tokens, end in segments:
        stated = set_transaction_modes(tokens)
        if stated is not None:
            modes = modes.then(stated)
            spans.append((tokens[0].position, end))
        elif _is_query(tokens):
            break
    return modes, tuple(spans)


def _is_query(statement: Tokens) -> bool:
    """Return whether *statement* takes a snapshot, after which the isolation level of its transaction is fixed."""
    return not is_word(statement[0], "set", "reset", "show", "lock")


def _configures_session(sql: str, statements: Sequence[Tokens]) -> bool:
    """Return whether a call of ``set_config`` may outlive the transaction; a call that is not understood may."""
    if "set_config" not in sql.lower():
        return False
    calls = [call for statement in statements for tokens in (statement, *block_tokens(statement))
             for call in config_calls(tokens)]  # fmt: skip
    return not calls or not all(call.local for call in calls)


def _names(statements: Sequence[Tokens], *, local: bool) -> frozenset[str] | None:
    names: set[str] = set()
    for statement in statements:
        found = setting_names(statement, local=local)
        if found is None:
            return None
        names |= found
    return frozenset(names)


def only_statement(sql: str) -> Tokens | None:
    """Return the tokens of the single statement in *sql*, None if there is none or more than one."""
    lexed: Lexed = lex(sql)
    statements = lexed.statements()
    return statements[0] if lexed.closed and len(statements) == 1 else None
