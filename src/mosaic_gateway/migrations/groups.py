"""Division of a migration into groups: consecutive chunks that run, commit and are counted together. Pure.

Theory of operation. Each chunk is a group of its own unless SQL itself needs one transaction:

    BEGIN                      begins a group, or is the warning that it is in PostgreSQL if one is open
    SET LOCAL, LOCK, …         begins a group if none is open (`transaction_scope`)
    FETCH, COPY … FREEZE       begins the group at the earlier chunk that it may need
    a deferred constraint      begins a group when the chunk violated it at its own COMMIT (`divide`, *deferring*)
    COMMIT                     ends the group, with AND CHAIN another one with the same modes begins
    end of the file            ends the group

After a file's own COMMIT the chunks commit one by one until its next BEGIN, as they do where a program sends them after
a COMMIT: SET LOCAL has no effect there beyond its chunk. BEGIN, COMMIT and a leading SET TRANSACTION are blanked in the
text that is sent; the runner's own BEGIN and COMMIT, with the modes of the file's, take their place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.model import Statement
from mosaic_gateway.migrations.side_effects import is_word
from mosaic_gateway.migrations.statement_traits import StatementTraits, traits_of
from mosaic_gateway.migrations.transaction_control import NO_MODES, Construct, TransactionModes

__all__ = ["DEFERRED", "Cause", "Conflict", "Group", "conflict_in", "divide", "group_around"]

READ_ONLY = re.compile(r"\bread\s+only\b|transaction_read_only", re.IGNORECASE)
DECLARED = re.compile(r'\bdeclare\s+"?([\w$]+)"?\s[^;]*?\bcursor\b', re.IGNORECASE)
WORD = re.compile(r"[\w$]+")
VALUE = re.compile(r"\bvalue\b", re.IGNORECASE)
DEFERRED = "a deferred constraint"
#: Settings by which the server reads the text of later statements, all of which are in one message here.
READING = ("standard_conforming_strings", "backslash_quote", "client_encoding")
#: Assignments of the values that these settings have in a run anyway, as pg_dump writes them.
AS_IN_A_RUN = re.compile(
    r"""\bset\s+((session|local)\s+)?
    (standard_conforming_strings\s*(=|\bto\b)\s*('on'|on\b)|client_encoding\s*(=|\bto\b)\s*('utf-?8'|utf8\b))""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """A construct of a file: its name, the number of its statement, and the line of the file on which it begins."""

    name: str
    number: int
    line: int

    @classmethod
    def of(cls, statement: Statement, construct: Construct) -> Self:
        """Return the place of *construct* in the file of *statement*."""
        line = statement.line + statement.sql.count("\n", 0, construct.position)
        return cls(name=construct.name, number=statement.number, line=line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Statements that share one transaction, ``texts`` as they are sent, the number of commands in each, and traits.

    ``cause``: why they need one transaction, None for a statement that runs as it is. ``modes`` are those of the
    transaction.
    """

    statements: tuple[Statement, ...]
    texts: tuple[str, ...]
    commands: tuple[int, ...]
    traits: tuple[StatementTraits, ...]
    cause: Cause | None = None
    modes: TransactionModes = NO_MODES

    @property
    def first(self) -> int:
        """Number of the first statement."""
        return self.statements[0].number

    @property
    def last(self) -> int:
        """Number of the last statement."""
        return self.statements[-1].number

    @property
    def may_be_read_only(self) -> bool:
        """Whether its transaction is or may become read-only, so that no record could be written after its text."""
        if self.modes.read_only or self.cause is None:
            return bool(self.modes.read_only)
        return any(READ_ONLY.search(statement.sql) for statement in self.statements)

    @property
    def local(self) -> frozenset[str]:
        """Settings that end with its transaction, as far as they are known."""
        return frozenset[str]().union(*(traits.local or () for traits in self.traits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Why a group cannot run as one transaction: the statement at fault, and a ``reason`` that names the other one."""

    what: Cause
    reason: str


def divide(statements: Sequence[Statement], *, deferring: int | None = None) -> tuple[Group, ...]:
    """Return the groups of a migration with *statements*.

    *deferring* is the number of a statement that violated a deferred constraint when it was committed alone: a later
    one may repair that, so it begins a group too.
    """
    traits = [traits_of(statement.sql) for statement in statements]
    openers = _openers(statements, traits, deferring)
    groups: list[Group] = []
    start = 0
    cause: Cause | None = None
    modes = NO_MODES
    for index, (statement, trait) in enumerate(zip(statements, traits, strict=True)):
        if cause is None and trait.begins is not None:
            cause = Cause.of(statement, Construct("BEGIN", trait.begins.span[0]))
        elif cause is None and index in openers:
            cause = Cause.of(statement, openers[index])
        if trait.ends is None and cause is not None and index + 1 < len(statements):
            continue
        groups.append(_group(statements[start : index + 1], traits[start : index + 1], cause, modes))
        start = index + 1
        cause, modes = None, NO_MODES
        if trait.ends is not None and trait.ends.chain:
            cause, modes = Cause.of(statement, Construct("COMMIT AND CHAIN", trait.ends.span[0])), groups[-1].modes
    return tuple(groups)


def group_around(statements: Sequence[Statement], applied: int) -> Group | None:
    """Return the group of which the first *applied* statements contain a part, None if they end with a group."""
    return next((group for group in divide(statements) if group.first <= applied < group.last), None)


def conflict_in(group: Group, *, followed: bool) -> Conflict | None:
    """Return why *group* cannot run as one transaction, None if nothing is known that prevents it.

    *followed*: other statements of the file follow it.
    """
    if group.cause is None:
        return None
    for statement, traits in zip(group.statements, group.traits, strict=True):
        if traits.outside is not None:
            what = Cause.of(statement, traits.outside)
            return Conflict(
                what=what, reason=f"{what.name} cannot run in a transaction, but {_needs(group, group.cause)}"
            )
    found = _text_conflict(group) or _enum_conflict(group, group.cause) or _reading_conflict(group, group.cause)
    return found or (_saving_conflict(group) if followed else None)


def _needs(group: Group, cause: Cause) -> str:
    end = "all that follows it"
    if group.traits[-1].ends is not None:
        end = f"what follows it up to the COMMIT in statement {group.last}"
    return f"{cause.name} (statement {cause.number}, line {cause.line}) needs one with {end}"


def _openers(
    statements: Sequence[Statement], traits: Sequence[StatementTraits], deferring: int | None
) -> Mapping[int, Construct]:
    """Return the constructs that begin a group if none is open, by the index of the statement at which it begins."""
    openers: dict[int, Construct] = {}
    begin, autocommit = 0, False
    cursors: set[str] = set()
    for index, trait in enumerate(traits):
        if trait.begins is not None:
            autocommit = False
        if not autocommit:
            if trait.scope is not None:
                openers[index] = trait.scope
            elif index + 1 == deferring:
                openers[index] = Construct(DEFERRED, 0)
            elif trait.earlier is not None:
                whole = trait.earlier.name == "COPY FREEZE"
                at = next((i for i in range(begin, index) if whole or traits[i].captures), None)
                if at is not None and (whole or cursors.isdisjoint(WORD.findall(statements[index].sql.lower()))):
                    openers[at] = Construct(trait.earlier.name, 0)
        cursors |= {name.lower() for name in DECLARED.findall(statements[index].sql)}
        if trait.ends is not None:
            begin, autocommit = index + 1, not trait.ends.chain
    return openers


def _group(
    statements: Sequence[Statement], traits: Sequence[StatementTraits], cause: Cause | None, modes: TransactionModes
) -> Group:
    """Return a group of *statements*; modes of SET TRANSACTION before any query become those of its BEGIN."""
    texts, commands = [], []
    leading = True
    for statement, trait in zip(statements, traits, strict=True):
        spans = [] if trait.ends is None else [trait.ends.span]
        count = trait.commands
        if leading:
            if trait.begins is not None:
                modes = modes.then(trait.begins.modes)
                spans.append(trait.begins.span)
            modes = modes.then(trait.modes)
            spans.extend(trait.leading)
        else:
            count += (trait.begins is not None) + len(trait.leading)
        leading = leading and not trait.queries
        texts.append(_blanked(statement.sql, spans))
        commands.append(count)
    return Group(
        statements=tuple(statements),
        texts=tuple(texts),
        commands=tuple(commands),
        traits=tuple(traits),
        cause=cause,
        modes=modes,
    )


def _blanked(sql: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return *sql* with the text of *spans* replaced by spaces, so that lines and positions stay the same."""
    for begin, end in spans:
        blank = "".join(letter if letter == "\n" else " " for letter in sql[begin:end])
        sql = f"{sql[:begin]}{blank}{sql[end:]}"
    return sql


def _text_conflict(group: Group) -> Conflict | None:
    for statement in group.statements[:-1]:
        if not traits_of(statement.sql).closed:
            what = Cause.of(statement, Construct("an open quote", 0))
            return Conflict(what=what, reason="the chunk ends inside of a quote or a comment")
    return None


def _enum_conflict(group: Group, cause: Cause) -> Conflict | None:
    """Return the use of an enum value that a statement of *group* adds, unless the group creates the enum itself."""
    if not any(VALUE.search(statement.sql) for statement in group.statements):
        return None
    added: dict[str, Cause] = {}
    created: set[str] = set()
    for statement in group.statements:
        for tokens in lex(statement.sql).statements():
            words = [token.text.lower() for token in tokens]
            at = Construct("", tokens[0].position)
            if words[:2] == ["create", "type"]:
                created.add(_type_name(words[2:]))
            elif words[:2] == ["alter", "type"]:
                value = next((token.text for token in tokens if token.kind == "text"), None)
                if ("add", "value") in pairwise(words) and value is not None:
                    name = _type_name(words[2:])
                    if name not in created:
                        added[value] = Cause.of(statement, at)
            elif not is_word(tokens[0], "comment"):
                used = next((token.text for token in tokens if token.kind == "text" and token.text in added), None)
                if used is not None:
                    addition = added[used]
                    reason = f"the enum value '{used}' is used in the transaction in which statement {addition.number} "
                    reason += (
                        f"(line {addition.line}) adds it, which PostgreSQL refuses (55P04); {_needs(group, cause)}"
                    )
                    return Conflict(what=Cause.of(statement, at), reason=reason)
    return None


def _type_name(words: Sequence[str]) -> str:
    """Return the last part of the possibly qualified name with which *words* begin."""
    index = 0
    while words[index + 1 : index + 2] == ["."]:
        index += 2
    return words[index] if index < len(words) else ""


def _reading_conflict(group: Group, cause: Cause) -> Conflict | None:
    for statement in group.statements[:-1]:
        changed = AS_IN_A_RUN.sub("", statement.sql).lower()
        for name in READING:
            if name in changed:
                what = Cause.of(statement, Construct(name, 0))
                reason = f"{name} would not apply to the next chunks, which are sent together; {_needs(group, cause)}"
                return Conflict(what=what, reason=reason)
    return None


def _saving_conflict(group: Group) -> Conflict | None:
    """Return settings of which it would be unknown whether they outlive *group*, if a later run continues after it."""
    if not any(traits.captures for traits in group.traits):
        return None
    for statement, traits in zip(group.statements, group.traits, strict=True):
        if traits.local is None or (group.local and (traits.session is None or traits.session & group.local)):
            reason = "a setting may be changed both for the session and for the transaction, so that a later run could "
            return Conflict(what=Cause.of(statement, Construct("set", 0)), reason=f"{reason}not restore it")
    return None
