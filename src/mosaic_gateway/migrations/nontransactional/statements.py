"""Statements that cannot run in a transaction: what they are, and whether one has taken effect.

Theory of operation. PostgreSQL says by SQLSTATE 25001 that a statement cannot run in a transaction.
Then its intent is written, it runs alone, and it is recorded as applied. A crash in between leaves the
intent, and the catalog is asked:

    index absent → run · valid → applied · invalid → drop it, then run
    database, tablespace, subscription there → applied, if it was not there before · else run
    the same the other way round for what drops them
    partition still attached → run · detach pending → finalize · detached → applied
    VACUUM, REINDEX, ALTER SYSTEM and their like → run again, which does no harm

What none of this decides is asked of a person (`storage resolve`), never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, LiteralString

import psycopg

from mosaic_gateway.migrations.lexer import Token
from mosaic_gateway.migrations.script import quote_name
from mosaic_gateway.migrations.statement_traits import is_word, only_statement

__all__ = ["NontransactionalStatement", "ProbeResult", "StatementKind", "Verdict", "classify", "observe", "probe"]

Connection = psycopg.Connection[tuple[object, ...]]


class StatementKind(StrEnum):
    """What a statement does, as far as its effect can be looked up."""

    CREATE_INDEX = "create index"
    DROP_INDEX = "drop index"
    CREATE = "create"
    DROP = "drop"
    DETACH = "detach partition"
    REINDEX = "reindex"
    RERUN = "run again"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class NontransactionalStatement:
    """A statement outside of transactions: ``name`` and ``table`` are SQL names, quoted as needed."""

    kind: StatementKind
    what: str = ""
    name: str = ""
    table: str = ""


class Verdict(StrEnum):
    """What the catalog says of a statement whose intent was found."""

    APPLIED = "applied"
    RUN = "run"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The verdict, statements that must run first, and a sentence for the report."""

    verdict: Verdict
    before: tuple[str, ...] = ()
    reason: str = ""


RERUN = {"vacuum", "analyze", "cluster", "discard", "checkpoint"}
CATALOGS: Mapping[str, LiteralString] = {
    "database": "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = %s)",
    "tablespace": "SELECT EXISTS (SELECT FROM pg_catalog.pg_tablespace WHERE spcname = %s)",
    "subscription": "SELECT EXISTS (SELECT FROM pg_catalog.pg_subscription WHERE subname = %s)",
}
INDEX: LiteralString = """
SELECT i.indisvalid AND i.indisready, n.nspname, c.relname FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relnamespace = (SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = to_regclass(%s))
"""
INDEXES: LiteralString = """
SELECT c.relname, i.indisvalid AND i.indisready, n.nspname FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.indrelid = to_regclass(%s) ORDER BY c.relname
"""
LEFT_BY_REINDEX: LiteralString = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relname ~ '_cc(new|old)[0-9]*$'
"""
DETACHED: LiteralString = "SELECT inhdetachpending FROM pg_catalog.pg_inherits WHERE inhrelid = to_regclass(%s)"


def classify(sql: str) -> NontransactionalStatement:
    """Return what *sql* does outside of a transaction; `StatementKind.UNKNOWN` where that cannot be looked up."""
    tokens = only_statement(sql)
    if not tokens:
        return NontransactionalStatement(kind=StatementKind.UNKNOWN)
    words = _Words(tokens)
    first = words.take()
    if first in RERUN:
        return NontransactionalStatement(kind=StatementKind.RERUN)
    read = READERS.get(first or "")
    found = read(words) if read is not None else NontransactionalStatement(kind=StatementKind.UNKNOWN)
    return found if _complete(found) and not words.lists() else NontransactionalStatement(kind=StatementKind.UNKNOWN)


def _complete(statement: NontransactionalStatement) -> bool:
    """Return whether there is a name to look up."""
    if statement.kind is StatementKind.CREATE_INDEX:
        return bool(statement.table)
    return bool(statement.name) or statement.kind in {StatementKind.REINDEX, StatementKind.RERUN}


def observe(connection: Connection, statement: NontransactionalStatement) -> dict[str, Any]:
    """Return what must be known from before the statement ran, to be kept with its intent. Reads only."""
    if statement.kind is StatementKind.CREATE_INDEX and not statement.name:
        return {"indexes": [str(name) for name, *_ in connection.execute(INDEXES, (statement.table,))]}
    if statement.kind in {StatementKind.CREATE, StatementKind.DROP}:
        return {"existed": _exists(connection, statement)}
    if statement.kind is StatementKind.CREATE_INDEX:
        return {"existed": connection.execute(INDEX, (_plain(statement.name), statement.table)).fetchone() is not None}
    if statement.kind is StatementKind.DETACH:
        return {"attached": connection.execute(DETACHED, (statement.name,)).fetchone() is not None}
    return {}


def probe(connection: Connection, statement: NontransactionalStatement, note: Mapping[str, Any]) -> ProbeResult:
    """Return whether *statement*, whose intent and *note* were found, has taken effect. Reads only."""
    look = PROBES.get(statement.kind)
    return look(connection, statement, note) if look is not None else ProbeResult(Verdict.UNDECIDED)


def _probe_dropped_index(
    connection: Connection, statement: NontransactionalStatement, _note: Mapping[str, Any]
) -> ProbeResult:
    found = connection.execute("SELECT to_regclass(%s) IS NULL", (statement.name,)).fetchone()
    return _decided(bool(found and found[0]), f"index {statement.name} is gone")


def _probe_created(
    connection: Connection, statement: NontransactionalStatement, note: Mapping[str, Any]
) -> ProbeResult:
    there = _exists(connection, statement) and not note.get("existed")
    return _decided(there, f"{statement.what} {statement.name} is there")


def _probe_dropped(
    connection: Connection, statement: NontransactionalStatement, _note: Mapping[str, Any]
) -> ProbeResult:
    return _decided(not _exists(connection, statement), f"{statement.what} {statement.name} is gone")


def _probe_reindex(
    connection: Connection, _statement: NontransactionalStatement, _note: Mapping[str, Any]
) -> ProbeResult:
    left = [_drop_index(str(schema), str(name)) for schema, name in connection.execute(LEFT_BY_REINDEX)]
    return ProbeResult(Verdict.RUN, tuple(left), "it can be run again")


def _probe_rerun(
    _connection: Connection, _statement: NontransactionalStatement, _note: Mapping[str, Any]
) -> ProbeResult:
    return ProbeResult(Verdict.RUN, (), "it can be run again")


def _probe_index(connection: Connection, statement: NontransactionalStatement, note: Mapping[str, Any]) -> ProbeResult:
    if statement.name:
        rows = [(valid, schema, name) for valid, schema, name in connection.execute(
            INDEX, (_plain(statement.name), statement.table)
        )]  # fmt: skip
        if note.get("existed") and rows and rows[0][0]:
            return ProbeResult(Verdict.RUN, (), "an index of that name was there before")
    else:
        known = set(note.get("indexes", ()))
        found = connection.execute(INDEXES, (statement.table,))
        rows = [(valid, schema, name) for name, valid, schema in found if name not in known]
    if len(rows) > 1:
        return ProbeResult(Verdict.UNDECIDED)
    if not rows:
        return ProbeResult(Verdict.RUN, (), "the index is not there")
    valid, schema, name = rows[0]
    if valid:
        return ProbeResult(Verdict.APPLIED, (), f"index {name} is there and valid")
    return ProbeResult(Verdict.RUN, (_drop_index(str(schema), str(name)),), f"index {name} was left invalid")


def _probe_detach(connection: Connection, statement: NontransactionalStatement, note: Mapping[str, Any]) -> ProbeResult:
    row = connection.execute(DETACHED, (statement.name,)).fetchone()
    if row is None and not note.get("attached", True):
        return ProbeResult(Verdict.RUN, (), f"{statement.name} was no partition before either")
    if row is None:
        return ProbeResult(Verdict.APPLIED, (), f"partition {statement.name} is detached")
    if row[0]:
        finalize = f"ALTER TABLE {statement.table} DETACH PARTITION {statement.name} FINALIZE"
        return ProbeResult(Verdict.APPLIED, (finalize,), f"detaching {statement.name} was pending")
    return ProbeResult(Verdict.RUN, (), f"partition {statement.name} is still attached")


def _decided(applied: bool, reason: str) -> ProbeResult:  # noqa: FBT001 - the one thing it decides on
    return ProbeResult(Verdict.APPLIED, (), reason) if applied else ProbeResult(Verdict.RUN, (), f"not so: {reason}")


def _exists(connection: Connection, statement: NontransactionalStatement) -> bool:
    row = connection.execute(CATALOGS[statement.what], (_plain(statement.name),)).fetchone()
    return bool(row and row[0])


def _drop_index(schema: str, name: str) -> str:
    return f"DROP INDEX CONCURRENTLY IF EXISTS {quote_name(schema)}.{quote_name(name)}"


def _plain(name: str) -> str:
    """Return the last part of a quoted SQL name, unquoted."""
    return name.rsplit('"."', 1)[-1].strip('"').replace('""', '"')


class _Words:
    """Reads a statement's tokens from the left."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._at = 0

    def take(self, *wanted: str) -> str | None:
        """Take the next word if it is one of *wanted* (any, without)."""
        if self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind == "word" and (not wanted or token.text in wanted):
                self._at += 1
                return token.text
        return None

    def name(self) -> str:
        """Take a name, dotted perhaps, and return it quoted; empty where there is none."""
        parts: list[str] = []
        while self._at < len(self._tokens) and self._tokens[self._at].kind in {"word", "name"}:
            parts.append(quote_name(self._tokens[self._at].text))
            self._at += 1
            if self._at < len(self._tokens) and self._tokens[self._at].text == ".":
                self._at += 1
            else:
                break
        return ".".join(parts)

    def sees(self, word: str) -> bool:
        """Return whether *word* is the next one."""
        return self._at < len(self._tokens) and is_word(self._tokens[self._at], word)

    def lists(self) -> bool:
        """Return whether more names follow."""
        return self._at < len(self._tokens) and self._tokens[self._at].text == ","


def _create(words: _Words) -> NontransactionalStatement:
    words.take("unique")
    if words.take("index"):
        words.take("concurrently")
        if words.take("if"):
            words.take("not")
            words.take("exists")
        name = "" if words.sees("on") else words.name()
        words.take("on")
        words.take("only")
        return NontransactionalStatement(kind=StatementKind.CREATE_INDEX, what="index", name=name, table=words.name())
    what = words.take(*CATALOGS)
    return (
        NontransactionalStatement(kind=StatementKind.CREATE, what=what, name=words.name())
        if what
        else NontransactionalStatement(kind=StatementKind.UNKNOWN)
    )


def _drop(words: _Words) -> NontransactionalStatement:
    what = words.take("index", *CATALOGS)
    if what is None:
        return NontransactionalStatement(kind=StatementKind.UNKNOWN)
    words.take("concurrently")
    if words.take("if"):
        words.take("exists")
    name = words.name()
    if what == "index":
        return NontransactionalStatement(kind=StatementKind.DROP_INDEX, what=what, name=name)
    return NontransactionalStatement(kind=StatementKind.DROP, what=what, name=name)


def _alter(words: _Words) -> NontransactionalStatement:
    if words.take("system"):
        return NontransactionalStatement(kind=StatementKind.RERUN)
    if words.take("database", "subscription"):
        return NontransactionalStatement(kind=StatementKind.RERUN)
    if not words.take("table"):
        return NontransactionalStatement(kind=StatementKind.UNKNOWN)
    if words.take("if"):
        words.take("exists")
    words.take("only")
    table = words.name()
    if words.take("detach") and words.take("partition"):
        return NontransactionalStatement(kind=StatementKind.DETACH, what="partition", name=words.name(), table=table)
    return NontransactionalStatement(kind=StatementKind.UNKNOWN)


READERS: Mapping[str, Callable[[_Words], NontransactionalStatement]] = {
    "create": _create,
    "drop": _drop,
    "alter": _alter,
    "reindex": lambda _words: NontransactionalStatement(kind=StatementKind.REINDEX),
}
PROBES: Mapping[StatementKind, Callable[[Connection, NontransactionalStatement, Mapping[str, Any]], ProbeResult]] = {
    StatementKind.CREATE_INDEX: _probe_index,
    StatementKind.DROP_INDEX: _probe_dropped_index,
    StatementKind.CREATE: _probe_created,
    StatementKind.DROP: _probe_dropped,
    StatementKind.DETACH: _probe_detach,
    StatementKind.REINDEX: _probe_reindex,
    StatementKind.RERUN: _probe_rerun,
}
