"""Statements that cannot run in a transaction block: classification, and detection of their effect.

Theory of operation. PostgreSQL reports with SQLSTATE 25001 or 2D000 that a statement cannot run in a transaction block.
Its intent is then recorded, the statement runs alone, and it is recorded as applied. After a crash in between,
the intent is left, and the system catalogs decide:

    CREATE INDEX       index absent → run · valid → applied · invalid → drop it, then run
    CREATE DATABASE, TABLESPACE, SUBSCRIPTION
                       exists and did not exist before → applied · else run
    DROP of these      does not exist → applied · else run
    DETACH PARTITION   still attached → run · detach pending → finalize · detached → applied
    VACUUM, REINDEX, ALTER SYSTEM and similar
                       run again, which is harmless

Any other case is undecided, and the user must resolve it (`storage resolve`); so is a procedure or a DO block that
commits by itself (SQLSTATE 2D000 in a transaction), also after an error: a part of its work may be permanent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, LiteralString

import psycopg

from mosaic_gateway.migrations.lexer import Token
from mosaic_gateway.migrations.quoting import quote_name
from mosaic_gateway.migrations.statement_traits import is_word, only_statement

__all__ = ["NontransactionalStatement", "ProbeResult", "StatementKind", "Verdict", "classify", "observe", "probe"]

Connection = psycopg.Connection[tuple[object, ...]]


class StatementKind(StrEnum):
    """Kinds of statements, by how their effect is detected."""

    CREATE_INDEX = "create index"
    DROP_INDEX = "drop index"
    CREATE = "create"
    DROP = "drop"
    DETACH = "detach partition"
    REINDEX = "reindex"
    RERUN = "run again"
    COMMITS = "commits by itself"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class NontransactionalStatement:
    """A nontransactional statement: ``what`` is the object type; ``name`` and ``table`` are quoted SQL names."""

    kind: StatementKind
    what: str = ""
    name: str = ""
    table: str = ""


class Verdict(StrEnum):
    """Whether a statement with a recorded intent took effect, according to the system catalogs."""

    APPLIED = "applied"
    RUN = "run"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The verdict, the statements that must run first, and the reason as a phrase for the report."""

    verdict: Verdict
    before: tuple[str, ...] = ()
    reason: str = ""


COMMITS = {"call", "do"}
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
    """Classify *sql*; `StatementKind.UNKNOWN` if its effect cannot be detected."""
    tokens = only_statement(sql)
    if not tokens:
        return NontransactionalStatement(kind=StatementKind.UNKNOWN)
    words = _Words(tokens)
    first = words.take()
    if first in RERUN:
        return NontransactionalStatement(kind=StatementKind.RERUN)
    if first in COMMITS:
        return NontransactionalStatement(kind=StatementKind.COMMITS)
    read = READERS.get(first or "")
    parsed = read(words) if read is not None else NontransactionalStatement(kind=StatementKind.UNKNOWN)
    return parsed if _complete(parsed) and not words.lists() else NontransactionalStatement(kind=StatementKind.UNKNOWN)


def _complete(statement: NontransactionalStatement) -> bool:
    """Return whether the names that the probe needs are known."""
    if statement.kind is StatementKind.CREATE_INDEX:
        return bool(statement.table)
    return bool(statement.name) or statement.kind in {StatementKind.REINDEX, StatementKind.RERUN}


def observe(connection: Connection, statement: NontransactionalStatement) -> dict[str, Any]:
    """Return the state before *statement* runs, as `probe` needs it later. Reads only."""
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
    """Return whether *statement*, whose intent is recorded with *note*, took effect. Reads only."""
    probe_kind = PROBES.get(statement.kind)
    return probe_kind(connection, statement, note) if probe_kind is not None else ProbeResult(Verdict.UNDECIDED)


def _probe_dropped_index(
    connection: Connection, statement: NontransactionalStatement, _note: Mapping[str, Any]
) -> ProbeResult:
    row = connection.execute("SELECT to_regclass(%s) IS NULL", (statement.name,)).fetchone()
    return _decided(bool(row and row[0]), f"index {statement.name} no longer exists", f"index {statement.name} exists")


def _probe_created(
    connection: Connection, statement: NontransactionalStatement, note: Mapping[str, Any]
) -> ProbeResult:
    created = _exists(connection, statement) and not note.get("existed")
    subject = f"{statement.what} {statement.name}"
    return _decided(created, f"{subject} exists", f"{subject} was not created")


def _probe_dropped(
    connection: Connection, statement: NontransactionalStatement, _note: Mapping[str, Any]
) -> ProbeResult:
    subject = f"{statement.what} {statement.name}"
    return _decided(not _exists(connection, statement), f"{subject} no longer exists", f"{subject} exists")


def _probe_reindex(
    connection: Connection, _statement: NontransactionalStatement, _note: Mapping[str, Any]
) -> ProbeResult:
    drops = [_drop_index(str(schema), str(name)) for schema, name in connection.execute(LEFT_BY_REINDEX)]
    return ProbeResult(Verdict.RUN, tuple(drops), "it can be run again")


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
            return ProbeResult(Verdict.RUN, (), "an index of that name already existed")
    else:
        known = set(note.get("indexes", ()))
        indexes = connection.execute(INDEXES, (statement.table,))
        rows = [(valid, schema, name) for name, valid, schema in indexes if name not in known]
    if len(rows) > 1:
        return ProbeResult(Verdict.UNDECIDED)
    if not rows:
        return ProbeResult(Verdict.RUN, (), "the index does not exist")
    valid, schema, name = rows[0]
    if valid:
        return ProbeResult(Verdict.APPLIED, (), f"index {name} exists and is valid")
    return ProbeResult(Verdict.RUN, (_drop_index(str(schema), str(name)),), f"index {name} was left invalid")


def _probe_detach(connection: Connection, statement: NontransactionalStatement, note: Mapping[str, Any]) -> ProbeResult:
    row = connection.execute(DETACHED, (statement.name,)).fetchone()
    if row is None and not note.get("attached", True):
        return ProbeResult(Verdict.RUN, (), f"{statement.name} was not a partition before")
    if row is None:
        return ProbeResult(Verdict.APPLIED, (), f"partition {statement.name} is detached")
    if row[0]:
        finalize = f"ALTER TABLE {statement.table} DETACH PARTITION {statement.name} FINALIZE"
        return ProbeResult(Verdict.APPLIED, (finalize,), f"the detach of {statement.name} was pending")
    return ProbeResult(Verdict.RUN, (), f"partition {statement.name} is still attached")


def _decided(applied: bool, if_applied: str, if_not: str) -> ProbeResult:  # noqa: FBT001 - the condition
    return ProbeResult(Verdict.APPLIED, (), if_applied) if applied else ProbeResult(Verdict.RUN, (), if_not)


def _exists(connection: Connection, statement: NontransactionalStatement) -> bool:
    row = connection.execute(CATALOGS[statement.what], (_plain(statement.name),)).fetchone()
    return bool(row and row[0])


def _drop_index(schema: str, name: str) -> str:
    return f"DROP INDEX CONCURRENTLY IF EXISTS {quote_name(schema)}.{quote_name(name)}"


def _plain(name: str) -> str:
    """Return the last part of a quoted SQL name, unquoted."""
    return name.rsplit('"."', 1)[-1].strip('"').replace('""', '"')


class _Words:
    """Reads the tokens of a statement from left to right."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens = tokens
        self._index = 0

    def take(self, *wanted: str) -> str | None:
        """Consume and return the next word if it is one of *wanted*, or any word if *wanted* is empty."""
        if self._index < len(self._tokens):
            token = self._tokens[self._index]
            if token.kind == "word" and (not wanted or token.text in wanted):
                self._index += 1
                return token.text
        return None

    def name(self) -> str:
        """Consume a possibly qualified name and return it quoted; empty if there is none."""
        parts: list[str] = []
        while self._index < len(self._tokens) and self._tokens[self._index].kind in {"word", "name"}:
            parts.append(quote_name(self._tokens[self._index].text))
            self._index += 1
            if self._index < len(self._tokens) and self._tokens[self._index].text == ".":
                self._index += 1
            else:
                break
        return ".".join(parts)

    def sees(self, word: str) -> bool:
        """Return whether the next token is *word*."""
        return self._index < len(self._tokens) and is_word(self._tokens[self._index], word)

    def lists(self) -> bool:
        """Return whether a list of names continues."""
        return self._index < len(self._tokens) and self._tokens[self._index].text == ","


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
