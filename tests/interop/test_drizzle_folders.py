"""The folders of tests/drizzle_folders on both drizzle-orm versions and through our runner, on each PostgreSQL here.

Contents are compared by pg_dump, without the schemas of ledger and progress; ledgers row by row.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from tests.interop.drizzle import LIMIT, Drizzle
from tests.support.drizzle_folders import Folder, each_folder
from tests.support.postgres_server import SYSTEM_SERVERS, PostgresServer, RunServer, settings_for

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.runner import read_plan

SERVERS = ["wheel", *(name for name in SYSTEM_SERVERS if name.startswith("debian"))]
OLDEST_WITH_SHARED_ENUM = 16  # a value added to a type of the same transaction can be used in it
IN_TRANSACTION, NO_COMMIT, USE_OF_NEW_VALUE = "25001", "2D000", "55P04"
#: What drizzle-orm cannot run: its one transaction has begun already, and cannot be ended by a procedure.
FAILS = {
    "06-call-procedure-that-commits": NO_COMMIT,
    "26-isolation-level": IN_TRANSACTION,
    "28-do-block-that-commits": NO_COMMIT,
}


@pytest.fixture(scope="module", params=SERVERS)
def server(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, run_server: RunServer
) -> Iterator[PostgresServer]:
    """The server of the wheel, and those of this machine."""
    if request.param == "wheel":
        yield postgres_server
        return
    name = str(request.param)
    with run_server(f"folders-{name[-2:]}", bindir=SYSTEM_SERVERS[name], settings=settings_for(name)) as started:
        yield started


def fresh(server: PostgresServer) -> str:
    """Return the conninfo of a new database."""
    return server.conninfo(server.create_database(prefix="folder"))


def contents(conninfo: str, postgres_bin: Path) -> str:
    """Return schema and rows as SQL, without ledger and progress."""
    options = ["--inserts", "--no-owner", "--restrict-key=interop", "--exclude-schema=drizzle|mosaic"]
    done = subprocess.run(
        [postgres_bin / "pg_dump", *options, f"--dbname={conninfo}"],
        capture_output=True, text=True, check=True, timeout=LIMIT,
    )  # fmt: skip
    return done.stdout


def ledger(conninfo: str, *columns: str) -> list[tuple[object, ...]]:
    """Return hash and time, in seconds as 1.0 writes it, and *columns* of each row."""
    query = f"SELECT {', '.join(['hash', 'created_at / 1000', *columns])} FROM drizzle.__drizzle_migrations ORDER BY id"
    with psycopg.connect(conninfo, autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()


def run_ours(folder: Folder, conninfo: str) -> tuple[str, ...]:
    """Run our runner on the folder as it is, and return what it applied."""
    bundle = Bundle.from_directory(folder.path)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        applied = migrate(bundle, connection).applied
        assert read_plan(connection, bundle).up_to_date
        return applied


def source_of(folder: Folder, drizzle: Drizzle, path: Path) -> Path:
    """Return the folder itself, or a copy in the layout that this version of drizzle-orm reads."""
    if (folder.path / "meta").exists() == (drizzle.version == "045"):
        return folder.path
    migrations = [
        (Migration(tag=source.tag, when=source.when, hash="", statements=()), source.content)
        for source in folder.sources
    ]
    return drizzle.folder(path, migrations)


def expected_failure(folder: Folder, server_version: int) -> str | None:
    """Return the SQLSTATE with which drizzle-orm fails on a new database."""
    if folder.name == "15-enum-fresh-pg15" and server_version < OLDEST_WITH_SHARED_ENUM:
        return USE_OF_NEW_VALUE
    return FAILS.get(folder.name)


@each_folder
def test_all_runners_make_the_same_database(
    server: PostgresServer, drizzle045: Drizzle, drizzle1: Drizzle, folder: Folder, tmp_path: Path, postgres_bin: Path
) -> None:
    """Contents and ledger are equal, and each has nothing to do after the other; what drizzle cannot run, ours can."""
    ours = fresh(server)
    assert len(run_ours(folder, ours)) == len(folder.sources)
    result, rows = contents(ours, postgres_bin), ledger(ours)
    with psycopg.connect(ours, autocommit=True) as connection:
        folder.check(connection)
        version = connection.info.server_version // 10000

        for drizzle in (drizzle045, drizzle1):
            source = source_of(folder, drizzle, tmp_path / drizzle.version)
            outcome = drizzle.run(source, ours)
            assert outcome.ok, outcome
            assert ledger(ours) == rows
            folder.check(connection)
            assert run_ours(folder, ours) == ()

            theirs = fresh(server)
            outcome = drizzle.run(source, theirs)
            assert outcome.code == expected_failure(folder, version), outcome
            if outcome.ok:
                names = () if drizzle is drizzle045 else ("name",)
                assert contents(theirs, postgres_bin) == result
                assert ledger(theirs, *names) == ledger(ours, *names)
                assert run_ours(folder, theirs) == ()
                assert ledger(theirs, *names) == ledger(ours, *names)
