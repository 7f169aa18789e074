"""Sixteen processes that start on one database at the same instant."""

from __future__ import annotations

import time

import psycopg
import pytest
from tests.sweep.bundles import contents, write
from tests.sweep.conftest import PACKAGED, Bundles, CheckEnd
from tests.sweep.runners import Nursery, Runner

STARTERS = 16
HEAD_START = 0.4  # seconds in which all of them are forked


@pytest.fixture(scope="session")
def transactional(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """A bundle whose statements all run in transactions: without the lock nothing else is fenced."""
    files = [
        ("CREATE TABLE notes (n integer NOT NULL)", "CREATE TABLE counter AS SELECT 0 AS n"),
        *(
            tuple(
                f"INSERT INTO notes SELECT {n} FROM pg_sleep(0.002); UPDATE counter SET n = n + 1"
                for n in range(file * 20, file * 20 + 20)
            )
            for file in range(4)
        ),
        ("",),
        ("SET my.flag = '5'", "INSERT INTO notes VALUES (-current_setting('my.flag')::integer)"),
    ]
    return (str(write(tmp_path_factory.mktemp("transactional"), contents(files))),)


@pytest.mark.parametrize("mode", ["ordinary", "strict", "unlocked"])
def test_all_at_once(
    database: str, nursery: Nursery, transactional: Bundles, generated: Bundles, check_end: CheckEnd, mode: str
) -> None:
    """By the lock and the fence, by the lock alone, by the fence alone: everything is applied exactly once.

    Among it are, for the ordinary runner, statements outside of transactions, and DISCARD ALL, which gives the lock up.
    """
    bundle = generated if mode == "ordinary" else transactional
    at = time.time() + HEAD_START
    runners = [nursery.start(database, bundle, mode=mode, at=at) for _ in range(STARTERS)]
    ends = [runner.wait() for runner in runners]
    assert {end.error for end in ends} == {None}, [end.message for end in ends]
    tags = [tag for end in ends for tag in end.applied]
    assert len(tags) == len(set(tags)) > 0
    check_end(database, bundle)
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM drizzle.__drizzle_migrations").fetchone() == (len(tags),)


@pytest.mark.parametrize("which", ["packaged", "generated"])
def test_all_at_once_and_the_one_that_works_is_killed(
    database: str, nursery: Nursery, generated: Bundles, check_end: CheckEnd, which: str
) -> None:
    """Another takes over within its own run; nobody has to be started again."""
    bundle = PACKAGED if which == "packaged" else generated
    at = time.time() + HEAD_START
    runners = [nursery.start(database, bundle, at=at) for _ in range(STARTERS)]
    with psycopg.connect(database, autocommit=True) as connection:
        killed = _kill_the_holder(connection, {runner.pid: runner for runner in runners})
    ends = [runner.wait() for runner in runners if runner is not killed]
    assert {end.error for end in ends} == {None}, [end.message for end in ends]
    check_end(database, bundle)


def _kill_the_holder(connection: psycopg.Connection, runners: dict[int, Runner]) -> Runner:
    """Kill the runner that holds the lock, as soon as there is one, and return it."""
    deadline = time.monotonic() + 20
    query = (
        "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND application_name LIKE 'runner %'"
    )
    while (row := connection.execute(query).fetchone()) is None:
        assert time.monotonic() < deadline
    runner = runners[int(str(row[0]).removeprefix("runner "))]
    runner.kill()
    return runner
