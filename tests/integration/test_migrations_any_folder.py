"""Property test: any folder comes out as when psycopg sends it plainly, or the runner reports an error."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from tests.support.any_folder import BASE, SCHEMAS, File, folders, reference
from tests.support.postgres_server import PostgresServer
from tests.sweep.state import CATALOG, USER_SCHEMAS, Fingerprint, differences

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.failure import ChunkRefusedError
from mosaic_gateway.migrations.runner import migrate, read_plan

Connection = psycopg.Connection[tuple[object, ...]]
PART, WHOLE = 40, 1000  # examples
NO_TRANSACTION, SYNTAX_ERROR = "25P01", "42601"
#: Refused although PostgreSQL would run it: what a later run would have to restore between two groups is not known.
UNKNOWN_SETTING = "may be changed both for the session and for the transaction"


@dataclass(frozen=True, slots=True)
class Databases:
    """Two databases that each example empties: the runner's and the reference's."""

    ours: Connection
    plain: Connection
    folder: Path

    def empty(self) -> None:
        """Create the objects that every folder finds."""
        for connection in (self.ours, self.plain):
            connection.execute("DISCARD ALL")
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMAS} CASCADE".encode())
            connection.execute(BASE.encode())

    def write(self, files: Sequence[File]) -> Bundle:
        """Write the folder and read it with the package."""
        for path in self.folder.glob("*.sql"):
            path.unlink()
        entries = [{"idx": n, "when": 1700000000000 + n, "tag": f"{n:04}_file"} for n, _ in enumerate(files)]
        (self.folder / "meta" / "_journal.json").write_text(json.dumps({"entries": entries}))
        for entry, file in zip(entries, files, strict=True):
            (self.folder / f"{entry['tag']}.sql").write_bytes(file.text.encode())
        return Bundle.from_directory(self.folder)


@pytest.fixture(scope="module")
def databases(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """Connect to both databases."""
    names = [postgres_server.create_database(prefix="any") for _ in range(2)]
    folder = tmp_path_factory.mktemp("any")
    (folder / "meta").mkdir()
    with postgres_server.connect(names[0]) as ours, postgres_server.connect(names[1]) as plain:
        ours.prepare_threshold = plain.prepare_threshold = None
        yield Databases(ours, plain, folder)


def contents(connection: Connection) -> Fingerprint:
    """Return the schema and all rows, without numbers of sequences and transactions."""
    connection.execute("SET search_path = public")  # decides how the catalog writes names
    result: Fingerprint = {}
    for name, query in CATALOG.items():
        rows = connection.execute(f"{query} WHERE {USER_SCHEMAS} AND nspname NOT IN ('drizzle', 'mosaic')".encode())
        result[name] = sorted((row for row in rows if not str(row[1]).startswith("pg_")), key=repr)
    for schema, table, kind in result["relations"]:
        if kind == "r":
            order = (
                "note FROM notes ORDER BY n" if table == "notes" else f't::text FROM {schema}."{table}" t ORDER BY 1'
            )
            result[f"{schema}.{table}"] = connection.execute(f"SELECT {order}".encode()).fetchall()
    return result


def transactions(connection: Connection) -> list[set[int]]:
    """Return the positions of the notes that each transaction wrote."""
    rows = connection.execute("SELECT xid::text FROM notes ORDER BY n").fetchall()
    return [{place for place, row in enumerate(rows) if row == xid} for xid in set(rows)]


def test_no_folder_comes_out_otherwise_in_silence(databases: Databases, request: pytest.FixtureRequest) -> None:
    """Schema, rows and atomicity are those of the reference; where it fails, ours fails equally or refuses."""
    examples = WHOLE if request.config.getoption("--whole") else PART
    outcomes: Counter[str] = Counter()

    @settings(database=None, deadline=None, max_examples=examples, suppress_health_check=[HealthCheck.too_slow])
    @given(folder=folders)
    def check(folder: tuple[File, ...]) -> None:
        outcomes[compare(databases, folder)] += 1

    check()
    assert outcomes["applied"] > examples // 4, outcomes


def run_ours(bundle: Bundle, connection: Connection) -> MosaicError | None:
    """Run our runner and return its error."""
    try:
        migrate(bundle, connection)
    except MosaicError as error:
        return error
    return None


def compare(databases: Databases, folder: tuple[File, ...]) -> str:
    """Run *folder* both ways, compare, and return what ours did."""
    databases.empty()
    ours, plain = databases.ours, databases.plain
    before = contents(ours)
    bundle = databases.write(folder)
    sqlstate = reference(plain, folder)
    expected = contents(plain)
    error = run_ours(bundle, ours)
    # LOCK or SAVEPOINT after the file's own COMMIT: ours runs each chunk in a transaction.
    if sqlstate == NO_TRANSACTION:
        return "not compared"
    if isinstance(error, ChunkRefusedError):
        refusable = any(file.refusable for file in folder) or UNKNOWN_SETTING in error.message
        assert sqlstate is not None or refusable, error
        assert differences(contents(ours), before) == []
        return "refused"
    found = error and error.details.get("sqlstate")
    # A group is sent as one message, of which PostgreSQL reports a syntax error before it runs anything.
    assert found == sqlstate or (sqlstate is not None and found == SYNTAX_ERROR), error
    assert differences(contents(ours), expected) == []
    together = transactions(ours)
    assert all(any(places <= other for other in together) for places in transactions(plain)), (
        "a transaction was divided"
    )
    if error is not None:
        assert run_ours(bundle, ours) is not None
        assert differences(contents(ours), expected) == []
        return "failed"
    rows = ours.execute("SELECT hash FROM drizzle.__drizzle_migrations ORDER BY id").fetchall()
    assert rows == [(hashlib.sha256(file.text.encode()).hexdigest(),) for file in folder]
    assert read_plan(ours, bundle).up_to_date
    assert migrate(bundle, ours).applied == ()
    return "applied"
