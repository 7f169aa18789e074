"""Behaviour with both drizzle-orm 0.45 and 1.0: after a run of either runner the other can continue."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from tests.interop.drizzle import Drizzle

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.matching import drizzle_name
from mosaic_gateway.migrations.plan import DriftError
from mosaic_gateway.migrations.runner import read_plan

Connection = psycopg.Connection[tuple[object, ...]]
SchemaOf = Callable[[str], str]
GATEWAY = Bundle.load("gateway")
TAGS = tuple(migration.tag for migration in GATEWAY.migrations)
USE_OF_NEW_VALUE = "55P04"


def first(count: int) -> Bundle:
    """Return the first *count* migrations of the gateway."""
    return Bundle(name="gateway", ledger=GATEWAY.ledger, migrations=GATEWAY.migrations[:count])


def migrate_fully(conninfo: str, bundle: Bundle = GATEWAY) -> tuple[str, ...]:
    """Run our runner and return the tags that it applied; assert that a second run has nothing to do."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        applied = migrate(bundle, connection).applied
        assert read_plan(connection, bundle).up_to_date
        assert migrate(bundle, connection).applied == ()
        return applied


def rows(conninfo: str, table: str = "drizzle.__drizzle_migrations") -> list[tuple[object, ...]]:
    """Return the whole ledger."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(f"SELECT * FROM {table} ORDER BY id".encode()).fetchall()


@pytest.mark.parametrize("bundle", ["gateway", "storage"])
def test_after_our_run_drizzle_finds_nothing_to_do(
    drizzle: Drizzle, database: str, tmp_path: Path, schema_of: SchemaOf, bundle: str
) -> None:
    """drizzle adds no row to the ledger; 1.0 upgrades its format and adds the name to each row."""
    shipped = Bundle.load(bundle)
    table = f"{shipped.ledger.schema}.{shipped.ledger.table}"
    migrate_fully(database, shipped)
    before, schema = rows(database, table), schema_of(database)
    outcome = drizzle.run(drizzle.packaged(tmp_path / "sql", bundle=bundle), database, bundle=bundle)
    assert outcome.ok, outcome
    after = rows(database, table)
    assert [row[:3] for row in after] == before
    if drizzle.version == "1":
        assert [row[3] for row in after] == [drizzle_name(migration) for migration in shipped.migrations]
    assert schema_of(database) == schema
    assert migrate_fully(database, shipped) == ()
    assert rows(database, table) == after


@pytest.mark.parametrize("count", [1, 5, 9])
def test_drizzle_first_then_our_runner(
    drizzle: Drizzle, database: str, second_database: str, tmp_path: Path, schema_of: SchemaOf, count: int
) -> None:
    """After drizzle applied some migrations, our runner runs only the others; drizzle then has nothing to do."""
    outcome = drizzle.run(drizzle.packaged(tmp_path / "some", count), database)
    assert outcome.ok, outcome
    assert migrate_fully(database, first(count)) == ()
    assert migrate_fully(database) == TAGS[count:]
    before = rows(database)
    assert drizzle.run(drizzle.packaged(tmp_path / "all"), database).ok
    assert rows(database) == before
    assert len(before) == len(TAGS)
    migrate_fully(second_database)
    assert schema_of(database) == schema_of(second_database)


@pytest.mark.parametrize("count", [1, 5, 8])
def test_our_runner_then_drizzle_then_our_runner(
    drizzle: Drizzle, database: str, second_database: str, tmp_path: Path, schema_of: SchemaOf, count: int
) -> None:
    """After our runner applied some migrations, drizzle runs only the others, up to the one that it cannot run."""
    assert migrate_fully(database, first(count)) == TAGS[:count]
    outcome = drizzle.run(drizzle.packaged(tmp_path / "nine", 9), database)
    assert outcome.ok, outcome
    assert len(rows(database)) == 9
    assert migrate_fully(database) == TAGS[9:]
    assert drizzle.run(drizzle.packaged(tmp_path / "all"), database).ok
    assert len(rows(database)) == len(TAGS)
    migrate_fully(second_database)
    assert schema_of(database) == schema_of(second_database)


def test_a_new_enum_value_fails_only_in_drizzles_transaction(
    drizzle: Drizzle, database: str, second_database: str, tmp_path: Path, schema_of: SchemaOf
) -> None:
    """If the type exists and 0009 is pending, drizzle fails with 55P04 each time; our runner applies it."""
    migrate_fully(database, first(9))
    last = dataclasses.replace(GATEWAY.migrations[9], when=GATEWAY.migrations[8].when + 1000)  # else 0.45 skips it
    source = drizzle.packaged(tmp_path / "old") / (
        f"{drizzle_name(GATEWAY.migrations[9])}/migration.sql" if drizzle.version == "1" else f"{last.tag}.sql"
    )
    folder = drizzle.folder(tmp_path / "new", [(last, source.read_bytes())])
    if drizzle.version == "1":  # it needs the files of the rows that it upgrades
        drizzle.packaged(folder, 9)
    for _ in range(2):
        outcome = drizzle.run(folder, database)
        assert (outcome.ok, outcome.code) == (False, USE_OF_NEW_VALUE)
        assert "grant_status" in outcome.message
        assert len(rows(database)) == 9
    ahead = Bundle(name="gateway", ledger=GATEWAY.ledger, migrations=(*GATEWAY.migrations[:9], last))
    assert migrate_fully(database, ahead) == (last.tag,)
    assert drizzle.run(folder, database).ok
    assert len(rows(database)) == 10
    migrate_fully(second_database)
    assert schema_of(database) == schema_of(second_database)


def test_drizzle_ignores_an_edited_file(drizzle: Drizzle, database: str, tmp_path: Path) -> None:
    """drizzle ignores an edit of an applied file; our runner reports it, even if 1.0 truncated its time to seconds."""
    assert drizzle.run(drizzle.packaged(tmp_path / "sql", 9), database).ok
    folder = drizzle.packaged(tmp_path / "edited", 9)
    [edited] = [p for p in folder.rglob("*.sql") if "api_tokens" in str(p)]
    edited.write_bytes(edited.read_bytes() + b"\n-- edited\n")
    assert drizzle.run(folder, database).ok
    changed = dataclasses.replace(GATEWAY.migrations[3], hash="0" * 64)
    bundle = dataclasses.replace(first(9), migrations=(*GATEWAY.migrations[:3], changed, *GATEWAY.migrations[4:9]))
    with psycopg.connect(database, autocommit=True) as connection, pytest.raises(DriftError) as caught:
        migrate(bundle, connection)
    assert caught.value.details["tags"] == ["0003_api_tokens"]


def test_the_lock_file_names_both_lines_and_no_registry() -> None:
    """The tested versions are those of package.json, from the registry that npm is configured with."""
    lock = json.loads(Path(__file__).with_name("package-lock.json").read_text())
    packages = {name.rpartition("/")[2]: entry for name, entry in lock["packages"].items()}
    assert packages["drizzle-orm-045"]["version"] == "0.45.4"
    assert packages["drizzle-orm-1"]["version"] == "1.0.0-rc.5"
    assert all("integrity" in entry for name, entry in packages.items() if name)
    assert not any("resolved" in entry for entry in packages.values())
