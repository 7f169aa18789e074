"""``storage status`` and ``migrate`` on a running engine, on one started temporarily, and on a server."""

from __future__ import annotations

import json
import tomllib

import psycopg
import pytest
from tests.support.cli_home import MakePlace, Place

from mosaic_gateway.gateway.schema import load_bundles

TAGS = {bundle.name: [migration.tag for migration in bundle.migrations] for bundle in load_bundles()}


def states(place: Place, code: int = 0) -> dict[str, str]:
    """Return "bundle tag" → state of all migrations, from ``storage status``."""
    done = place.run("storage", "status", "--json")
    assert done.code == code, done
    return {
        f"{bundle['bundle']} {entry['tag']}": entry["state"]
        for bundle in json.loads(done.out)["result"]["bundles"]
        for entry in bundle["migrations"]
    }


@pytest.mark.slow
def test_stopped_and_running(stopped: Place) -> None:
    """The output is the same whether the gateway is running or the database is started temporarily."""
    everything = {f"{bundle} {tag}": "applied" for bundle, tags in TAGS.items() for tag in tags}
    assert states(stopped) == everything
    nothing = {
        "engine": "postgres",
        "bundles": [
            {"bundle": name, "applied": [], "already_applied": len(tags), "warnings": []} for name, tags in TAGS.items()
        ],
    }
    assert stopped.ask("storage", "migrate") == nothing
    stopped.assert_nothing_runs()
    stopped.ask("start")
    assert states(stopped) == everything
    assert stopped.ask("storage", "migrate") == nothing
    done = stopped.run("storage", "migrate")
    assert done.out == (
        f"gateway: up to date, {len(TAGS['gateway'])} applied (postgres)\n"
        f"storage: up to date, {len(TAGS['storage'])} applied (postgres)\n"
        "The gateway applies pending migrations whenever it starts.\n"
    )
    assert stopped.status_of("/readyz") == 200


def test_a_fresh_database(make_place: MakePlace, database: str) -> None:
    """Status writes nothing; migrate reports what it applied; then status shows it."""
    place = make_place(database)
    assert set(states(place).values()) == {"pending"}
    with psycopg.connect(database) as connection:
        count = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname IN ('drizzle', 'mosaic')"
        ).fetchone()
    assert count == (0,)
    done = place.run("storage", "migrate")
    assert done.code == 0, done
    for bundle, tags in TAGS.items():
        assert f"{bundle}: applied {', '.join(tags)} (server); 0 already applied\n" in done.out
        for tag in tags:
            assert f"{bundle} {tag}: statement 1 of " in done.err
    assert set(states(place).values()) == {"applied"}


@pytest.mark.slow
def test_half_applied(make_place: MakePlace, database: str) -> None:
    """A half-applied migration is shown with its error, and the next run completes it."""
    place = make_place(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE insights (id int)")
    error = place.ask("storage", "migrate", code=4)
    assert (error["code"], error["details"]["sqlstate"]) == ("STATEMENT_FAILED", "42P07")
    shown = states(place)
    tag = TAGS["gateway"][1]
    assert shown[f"gateway {TAGS['gateway'][0]}"] == "applied"
    assert shown[f"gateway {tag}"] == "half applied"
    done = place.run("storage", "status")
    assert done.code == 0
    lines = done.out.splitlines()
    number = next(number for number, line in enumerate(lines) if tag in line)
    assert "half applied: 1 of " in lines[number]
    assert "statement 2 failed: " in lines[number + 1]
    assert "SQLSTATE 42P07" in lines[number + 1]
    assert 'CREATE TABLE "insights"' in lines[number + 2]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE insights")
    applied = place.ask("storage", "migrate")["bundles"][0]["applied"]
    assert applied[0] == tag
    assert set(states(place).values()) == {"applied"}


def test_drift(make_place: MakePlace, database: str) -> None:
    """An edited applied migration is refused with exit code 7, and status still shows the applied ones."""
    place = make_place(database)
    place.ask("storage", "migrate")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE drizzle.__drizzle_migrations SET hash = repeat('e', 64) WHERE id = 3")
    assert place.ask("storage", "migrate", code=7)["code"] == "MIGRATION_DRIFT"
    shown = states(place, code=7)
    assert shown[f"gateway {TAGS['gateway'][1]}"] == "applied"
    assert shown[f"gateway {TAGS['gateway'][2]}"] == "changed"


def test_lock_timeout(make_place: MakePlace, database: str) -> None:
    """If another process holds the migration lock, the verb fails with exit code 6 after --lock-timeout."""
    from mosaic_gateway.migrations.advisory_lock import migration_lock  # noqa: PLC0415 - only here

    place = make_place(database)
    with psycopg.connect(database, autocommit=True) as connection, migration_lock(connection, timeout=5):
        assert place.ask("storage", "migrate", "--lock-timeout", "0.2", code=6)["code"] == "MIGRATIONS_BUSY"
    assert tomllib.loads(place.home.config_file.read_text())["engine"] == "server"
