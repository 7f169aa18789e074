"""Property test with any ledger and any bundle on a real server: nothing runs twice or is skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, prefix_hash, split, statement_digests
from mosaic_gateway.migrations.runner import migrate, read_plan

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
LEDGER = LEDGERS["gateway"]
#: Few files, so that equal ones, and equal, decreasing and unknown times are frequent. Each statement inserts a row.
FILES = [tuple(f"INSERT INTO notes (effect) VALUES ('{name}{number}')" for number in range(3)) for name in "abc"]
FOREIGN = "f" * 64
HASHES = [file_hash(MARK.join(statements).encode()) for statements in FILES]
RELATIONS = """
SELECT nspname, relname, relkind::text FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname IN ('public', 'drizzle', 'mosaic') ORDER BY 1, 2
"""
WHENS = st.integers(1, 4)
ROWS = st.lists(st.tuples(st.sampled_from([*HASHES, *HASHES, FOREIGN]), st.one_of(WHENS, st.just(99))), max_size=4)


@dataclass(frozen=True)
class HalfDone:
    """A progress row: ``applied`` statements of migration ``index``; ``edited``: its file was changed since."""

    index: int
    applied: int
    edited: bool


HALF_DONE = st.builds(HalfDone, index=st.integers(0, 3), applied=st.integers(0, 2), edited=st.booleans())


def bundle_of(files: Sequence[tuple[int, tuple[str, ...]]]) -> Bundle:
    """Return the bundle of these (when, statements), tagged m0, m1 and so on."""
    texts = [(when, MARK.join(statements)) for when, statements in files]
    migrations = tuple(
        Migration(tag=f"m{index}", when=when, hash=file_hash(text.encode()), statements=split(text))
        for index, (when, text) in enumerate(texts)
    )
    return Bundle(name="any", ledger=LEDGER, migrations=migrations)


@pytest.fixture(scope="module")
def connection(postgres_server: PostgresServer) -> Iterator[Connection]:
    """Open a connection to a database that each example empties."""
    name = postgres_server.create_database()
    with psycopg.connect(postgres_server.conninfo(name), autocommit=True) as opened:
        opened.execute("CREATE TABLE notes (effect text, n serial)")
        yield opened


def prepare(connection: Connection, bundle: Bundle, rows: Sequence[tuple[str, int]], half: HalfDone | None) -> None:
    """Empty the database and insert ledger *rows* and the progress row *half*."""
    connection.execute("DROP SCHEMA IF EXISTS drizzle, mosaic CASCADE; TRUNCATE notes")
    if rows:
        ledger.create(connection, LEDGER)
        query = "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (%s, %s)"
        connection.cursor().executemany(query, rows)
    if half is not None and half.index < len(bundle.migrations):
        migration = bundle.migrations[half.index]
        prefix = FOREIGN if half.edited else prefix_hash(migration.statements, half.applied)
        progress.create(connection)
        connection.execute(
            "INSERT INTO mosaic.migration_progress (ledger, tag, hash, applied, total, prefix, digests)"
            " VALUES (%s, %s, %s, %s, 3, %s, %s)",
            (progress.key_of(LEDGER), migration.tag, migration.hash, half.applied, prefix,
             statement_digests(migration.statements)),
        )  # fmt: skip


def contents(connection: Connection) -> list[object]:
    """Return all relations and rows that a run could have written."""
    relations = connection.execute(RELATIONS).fetchall()
    tables = [f"{schema}.{name}" for schema, name, kind in relations if kind == "r"]
    rows = [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2".encode()).fetchall() for table in tables]
    return [relations, *rows]


def effects(connection: Connection) -> list[str]:
    """Return the rows that the statements inserted, in order of execution."""
    return [str(effect) for (effect,) in connection.execute("SELECT effect FROM notes ORDER BY n")]


@settings(database=None, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(st.tuples(WHENS, st.sampled_from(FILES)), max_size=4),
    rows=ROWS,
    half=st.one_of(st.none(), HALF_DONE),
)
def test_exactly_the_missing_statements_run_or_nothing_is_written(
    connection: Connection, files: list[tuple[int, tuple[str, ...]]], rows: list[tuple[str, int]], half: HalfDone | None
) -> None:
    """Each statement that is not applied runs once, in the bundle's order; a refused run writes nothing."""
    bundle = bundle_of(files)
    prepare(connection, bundle, rows, half)
    before = contents(connection)
    shipped, recorded = Counter(m.hash for m in bundle.migrations), Counter(row_hash for row_hash, _ in rows)
    changed = half is not None and half.edited and half.applied > 0
    try:
        plan = read_plan(connection, bundle)
    except RefusedError as refusal:
        assert recorded - shipped or changed, "refused without a reason"
        with pytest.raises(type(refusal)):
            migrate(bundle, connection)
        assert contents(connection) == before
        return
    assert recorded.keys() <= shipped.keys()
    assert not (changed and half is not None and f"m{half.index}" in {p.migration.tag for p in plan.pending})
    assert contents(connection) == before, "a plan writes nothing"
    assert Counter(planned.migration.hash for planned in plan.pending) == shipped - recorded
    done = {f"m{half.index}": half.applied} if half is not None else {}
    expected = [
        statement.sql.split("'")[1]
        for planned in plan.pending
        for statement in planned.migration.statements[done.get(planned.migration.tag, 0) :]
    ]
    migrate(bundle, connection)
    assert effects(connection) == expected
    assert read_plan(connection, bundle).up_to_date
    after = contents(connection)
    assert migrate(bundle, connection).applied == ()
    assert contents(connection) == after
