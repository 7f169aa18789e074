"""Statements of a file that begin or end a transaction: recognition, and division of a chunk at them. Pure.

Source: PostgreSQL 18, "SQL Commands": BEGIN, START TRANSACTION, COMMIT, END, ROLLBACK, SET TRANSACTION. A statement
that is not valid in this grammar is left to the server, which reports the error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise

from mosaic_gateway.migrations.lexer import Token, lex

__all__ = [
    "AUTHORIZATION",
    "NO_MODES",
    "Construct",
    "TransactionBegin",
    "TransactionEnd",
    "TransactionModes",
    "begin_of",
    "cut",
    "end_of",
    "refused_control",
    "set_transaction_modes",
]

Tokens = tuple[Token, ...]
#: Refused: another session user may lack the privilege to write progress and ledger.
AUTHORIZATION = "set session authorization"
FIRST_WORDS = {"begin", "start", "commit", "end", "rollback", "set"}
NOISE = ("work", "transaction")
#: What a chunk contains at least if it has to be divided.
MAY_CONTROL = re.compile(r"\b(?:begin|start|commit|end)\b", re.IGNORECASE)
ISOLATION_LEVELS = (
    ("serializable",),
    ("repeatable", "read"),
    ("read", "committed"),
    ("read", "uncommitted"),
)


@dataclass(frozen=True, slots=True)
class Construct:
    """Something found in a chunk: its name for messages, and the offset of its statement in the chunk."""

    name: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionModes:
    """Modes of BEGIN or SET TRANSACTION; None where none is stated."""

    isolation: str | None = None
    read_only: bool | None = None
    deferrable: bool | None = None

    def then(self, later: TransactionModes) -> TransactionModes:
        """Return these modes changed by *later* ones."""
        return TransactionModes(
            isolation=later.isolation or self.isolation,
            read_only=self.read_only if later.read_only is None else later.read_only,
            deferrable=self.deferrable if later.deferrable is None else later.deferrable,
        )


NO_MODES = TransactionModes()


@dataclass(frozen=True, slots=True)
class TransactionBegin:
    """A BEGIN or START TRANSACTION in a chunk: its modes, and where its words begin and end."""

    modes: TransactionModes
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class TransactionEnd:
    """A COMMIT or END in a chunk: whether AND CHAIN follows, and where its words begin and end."""

    chain: bool
    span: tuple[int, int]


def begin_of(statement: Tokens, end: int) -> TransactionBegin | None:
    """Return the BEGIN or START TRANSACTION that *statement* is, None for any other statement.

    *end* is the position after its last token.
    """
    words = _words(statement)
    if words is None:
        return None
    rest = _without_noise(words, "begin") if words[0] == "begin" else None
    if words[:2] == ("start", "transaction"):
        rest = words[2:]
    modes = None if rest is None else _modes(rest)
    return None if modes is None else TransactionBegin(modes, (statement[0].position, end))


def end_of(statement: Tokens, end: int) -> TransactionEnd | None:
    """Return the COMMIT or END that *statement* is, None for any other statement."""
    words = _words(statement)
    if words is None or words[0] not in {"commit", "end"}:
        return None
    rest = _without_noise(words, words[0])
    if rest not in {(), ("and", "chain"), ("and", "no", "chain")}:
        return None
    return TransactionEnd(rest == ("and", "chain"), (statement[0].position, end))


def set_transaction_modes(statement: Tokens) -> TransactionModes | None:
    """Return the modes of a SET TRANSACTION, None for any other statement and for SET TRANSACTION SNAPSHOT."""
    words = _words(statement)
    if words is not None and words[:1] == ("set",) and words[1:2] in {("local",), ("session",)}:
        words = ("set", *words[2:])  # the same: it acts on the transaction in either spelling
    if words is None or words[:2] != ("set", "transaction") or not words[2:]:
        return None
    return _modes(words[2:])


def refused_control(statement: Tokens) -> str | None:
    """Return the words of *statement* that make it impossible in a migration, None if there are none."""
    words = tuple(token.text for token in statement[:4] if token.kind == "word")
    if words[:1] == ("rollback",):
        return None if _rolls_back_to(statement) else "rollback"
    if words[:1] == ("abort",):
        return "abort"
    if words[:2] in {("prepare", "transaction"), ("commit", "prepared")}:
        return " ".join(words[:2])
    past_scope = words[2:] if words[1:2] in {("session",), ("local",)} else ()
    if words[:3] == ("set", "session", "authorization") or past_scope[:2] == ("session", "authorization"):
        return AUTHORIZATION if words[:1] == ("set",) else None
    return None


def cut(chunk: str) -> tuple[tuple[int, str], ...]:
    """Divide *chunk* before each BEGIN and after each COMMIT; return each part and its offset.

    Each part contains a statement; a chunk without transaction control is one part.
    """
    if not MAY_CONTROL.search(chunk):
        return ((0, chunk),)
    segments = lex(chunk).segments()
    cuts = [0]
    for (_, before), (tokens, end) in pairwise([((), 0), *segments]):
        begins = begin_of(tokens, tokens[-1].position) is not None
        ended = before is not None and cuts[-1] == before + 1
        if begins and tokens is not segments[0][0] and not ended:
            cuts.append(tokens[0].position)
        if end is not None and tokens is not segments[-1][0] and end_of(tokens, end) is not None:
            cuts.append(end + 1)
    return tuple((begin, chunk[begin:stop]) for begin, stop in zip(cuts, [*cuts[1:], len(chunk)], strict=True))


def _rolls_back_to(statement: Tokens) -> bool:
    words = _words(statement) or tuple(token.text for token in statement)
    return _without_noise(words, "rollback")[:1] == ("to",)


def _words(statement: Tokens) -> tuple[str, ...] | None:
    """Return the words of *statement* with its commas, None if it contains anything else."""
    if statement[0].text not in FIRST_WORDS or any(token.kind != "word" and token.text != "," for token in statement):
        return None
    return tuple(token.text for token in statement)


def _without_noise(words: tuple[str, ...], first: str) -> tuple[str, ...]:
    rest = words[1:] if words[0] == first else words
    return rest[1:] if rest[:1] and rest[0] in NOISE else rest


def _modes(words: tuple[str, ...]) -> TransactionModes | None:
    """Return the transaction modes in *words*, with or without commas between them; None if there is anything else."""
    modes = NO_MODES
    while words:
        parsed = _mode(words)
        if parsed is None:
            return None
        modes, words = modes.then(parsed[0]), parsed[1]
        if words[:1] == (",",):
            words = words[1:]
            if not words:
                return None
    return modes


def _mode(words: tuple[str, ...]) -> tuple[TransactionModes, tuple[str, ...]] | None:
    if words[:2] == ("isolation", "level"):
        for level in ISOLATION_LEVELS:
            if words[2 : 2 + len(level)] == level:
                return replace(NO_MODES, isolation=" ".join(level).upper()), words[2 + len(level) :]
        return None
    if words[:2] in {("read", "only"), ("read", "write")}:
        return replace(NO_MODES, read_only=words[1] == "only"), words[2:]
    if words[:1] == ("deferrable",):
        return replace(NO_MODES, deferrable=True), words[1:]
    if words[:2] == ("not", "deferrable"):
        return replace(NO_MODES, deferrable=False), words[2:]
    return None
