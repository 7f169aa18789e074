"""drizzle-kit 1.0's layout, run by drizzle-orm 1.0 and by our runner in turn on the same database."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import psycopg
import pytest
from tests.interop.drizzle import Drizzle

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.folder_layout import folder_entries
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash
from mosaic_gateway.migrations.plan import DriftError
from mosaic_gateway.migrations.resolution import ResolveAnswer, resolve

CUSTOM = "-- Custom SQL migration file, put your code below! --"  # drizzle-kit writes several of the same bytes
FILES = {
    "20260101000000_a": "CREATE TABLE a (id int);\r\n--> statement-breakpoint\r\nINSERT INTO a VALUES (1);\r\n",
    "20260101000000_empty_1": CUSTOM,
    "20260101000000_Empty_2": CUSTOM,
    "20260102000000_b": "CREATE TABLE b (id int);",
    "20260133250000_overflow": "CREATE TABLE c (id int);",
}
COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = 'drizzle.__drizzle_migrations'::regclass AND attnum > 0 ORDER BY attnum
"""
ROWS = "SELECT id, hash, created_at, name, applied_at IS NULL FROM drizzle.__drizzle_migrations ORDER BY id"


def write(path: Path, count: int | None = None) -> Path:
    """Write the first *count* of `FILES` to *path*, with snapshots, and return *path*."""
    for name in list(FILES)[:count]:
        (path / name).mkdir(parents=True)
        (path / name / "migration.sql").write_bytes(FILES[name].encode())
        (path / name / "snapshot.json").write_text("{}")
    return path


def state(database: str) -> list[list[tuple[object, ...]]]:
    """Return the columns and the rows of the ledger, and the rows of table ``a``."""
    with psycopg.connect(database) as connection:
        return [connection.execute(query.encode()).fetchall() for query in (COLUMNS, ROWS, "SELECT * FROM a")]


def ours(database: str, folder: Path) -> tuple[str, ...]:
    """Run our runner and return the tags that it applied."""
    with psycopg.connect(database, autocommit=True) as connection:
        return migrate(Bundle.from_directory(folder), connection).applied


def test_each_finds_nothing_to_do_after_the_other(
    drizzle1: Drizzle, database: str, second_database: str, tmp_path: Path
) -> None:
    """Ledger, with its columns and names, and rows are equal, also if the two take turns."""
    three, everything = write(tmp_path / "three", 3), write(tmp_path / "all")
    assert ours(database, three) == tuple(FILES)[:3]
    assert drizzle1.run(three, second_database).ok
    assert state(database) == state(second_database)
    assert ours(second_database, three) == ()
    assert drizzle1.run(everything, database).ok
    assert ours(second_database, everything) == tuple(FILES)[3:]
    assert state(database) == state(second_database)
    assert ours(database, everything) == ()
    assert drizzle1.run(everything, second_database).ok
    assert state(database) == state(second_database)


def convert(path: Path, drizzle045: Drizzle, drizzle1: Drizzle) -> tuple[Path, Path]:
    """Return a folder of drizzle-kit 0.45 and the same as ``drizzle-kit up`` writes it."""
    texts = ["CREATE TABLE a (id int);", CUSTOM, CUSTOM, "CREATE TABLE b (id int);"]
    migrations = [
        (Migration(tag=f"{n:04}_m_{n}", when=1700000000123 + 2000 * n, hash="", statements=()), text.encode())
        for n, text in enumerate(texts)
    ]
    return drizzle045.folder(path / "045", migrations), drizzle1.folder(path / "1", migrations)


@pytest.mark.parametrize("applied", [2, 4])
def test_a_ledger_of_the_older_format_is_converted(
    drizzle045: Drizzle, drizzle1: Drizzle, database: str, second_database: str, tmp_path: Path, applied: int
) -> None:
    """A converted folder finds what 0.45, or our runner, applied; the ledger is then as drizzle-orm 1.0 converts it."""
    old, new = convert(tmp_path, drizzle045, drizzle1)
    with psycopg.connect(database, autocommit=True) as connection:
        bundle = Bundle.from_directory(old)
        migrate(Bundle(name="x", ledger=bundle.ledger, migrations=bundle.migrations[:applied]), connection)
    assert drizzle045.run(old, second_database).ok
    with psycopg.connect(second_database, autocommit=True) as connection:
        connection.execute("DELETE FROM drizzle.__drizzle_migrations WHERE id > %s", (applied,))
        connection.execute(b"DROP TABLE b" if applied < 4 else b"SELECT 1")
    assert len(ours(database, new)) == 4 - applied
    assert drizzle1.run(new, second_database).ok
    mine, its = state(database), state(second_database)
    assert (mine[0], [row[1:] for row in mine[1]]) == (its[0], [row[1:] for row in its[1]])
    assert drizzle1.run(new, database).ok
    assert ours(second_database, new) == ()
    assert (state(database), state(second_database)) == (mine, its)


def test_a_run_that_stops_in_a_file_is_completed(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """The message names the file; after the repair the rest is applied, and 1.0 finds nothing to do."""
    folder = write(tmp_path / "sql", 1)
    file = folder / "20260101000000_a" / "migration.sql"
    file.write_bytes(FILES["20260101000000_a"].encode() + b"--> statement-breakpoint\nSELECT 1 / 0;")
    with pytest.raises(StatementFailedError, match=r"^20260101000000_a/migration\.sql, statement 3 of 3"):
        ours(database, folder)
    file.write_bytes(FILES["20260101000000_a"].encode() + b"--> statement-breakpoint\nSELECT 1;")
    assert ours(database, folder) == ("20260101000000_a",)
    before = state(database)
    assert drizzle1.run(folder, database).ok
    assert state(database) == before


@pytest.mark.parametrize("resolved", [False, True])
def test_a_file_that_was_half_applied_before_the_conversion_continues(
    drizzle045: Drizzle, drizzle1: Drizzle, database: str, tmp_path: Path, resolved: bool
) -> None:
    """Its progress has the tag of the former layout; nothing runs twice, and 1.0 finds nothing to do."""
    text = "CREATE TABLE a (id int);--> statement-breakpoint\nINSERT INTO a VALUES (1);--> statement-breakpoint\n"
    text += "INSERT INTO a SELECT n FROM missing;--> statement-breakpoint\nINSERT INTO a VALUES (3);"
    migration = Migration(tag="0000_some_name", when=1700000000123, hash="", statements=())
    old = drizzle045.folder(tmp_path / "045", [(migration, text.encode())])
    new = drizzle1.folder(tmp_path / "1", [(migration, text.encode())])
    with pytest.raises(StatementFailedError):
        ours(database, old)
    with psycopg.connect(database, autocommit=True) as connection:
        if resolved:
            resolve(Bundle.from_directory(new), connection, "20231114221320_some_name", ResolveAnswer.APPLIED)
        else:
            connection.execute("CREATE TABLE missing AS SELECT 2 AS n")
    assert ours(database, new) == ("20231114221320_some_name",)
    assert state(database)[2] == ([(1,), (3,)] if resolved else [(1,), (2,), (3,)])
    before = state(database)
    assert drizzle1.run(new, database).ok
    assert state(database) == before


def test_an_edited_file_is_reported(drizzle1: Drizzle, database: str, tmp_path: Path) -> None:
    """1.0 compares only the name; our runner refuses the edited file."""
    folder = write(tmp_path / "sql")
    assert drizzle1.run(folder, database).ok
    (folder / "20260102000000_b" / "migration.sql").write_text("CREATE TABLE b (id bigint);")
    assert drizzle1.run(folder, database).ok
    with pytest.raises(DriftError) as caught:
        ours(database, folder)
    assert caught.value.details["tags"] == ["20260102000000_b"]


def test_folders_are_read_as_drizzle_reads_them(drizzle1: Drizzle, tmp_path: Path) -> None:
    """Order, times and hashes of folders with unusual names are those of its ``readMigrationFiles``."""
    letters = random.Random(1)
    names = [
        f"{letters.randrange(10**4):04}{letters.randrange(10**10):010}"[:12]
        + "00"
        + "".join(letters.choices("abAB01_-. ~(", k=letters.randrange(5)))
        for _ in range(200)
    ] + ["20260101000000" + "".join(letters.choices("abcABC012_-. ~(", k=letters.randrange(6))) for _ in range(300)]
    for name in names:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "migration.sql").write_text(f"SELECT '{name}';\r\n")
    script = (
        "const { readMigrationFiles } = require('drizzle-orm-1/migrator');"
        "const found = readMigrationFiles({ migrationsFolder: process.argv[1] });"
        "console.log(JSON.stringify(found.map((it) => [it.name, it.folderMillis, it.hash])))"
    )
    done = subprocess.run(
        ["node", "-e", script, str(tmp_path)],
        capture_output=True, check=True, timeout=60, env={**os.environ, "NODE_PATH": str(drizzle1.modules)},
    )  # fmt: skip
    entries = folder_entries(f"{name}/migration.sql" for name in set(names))
    assert json.loads(done.stdout) == [
        [entry.tag, entry.when, file_hash((tmp_path / entry.file).read_bytes())] for entry in entries
    ]
