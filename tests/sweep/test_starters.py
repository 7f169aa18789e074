"""Sixteen processes that start on one database at the same time."""

from __future__ import annotations

import time

import psycopg
import pytest
from tests.sweep.bundles import contents, write
from tests.sweep.runners import ForkServer, Runner
from tests.sweep.scale import PACKAGED, Bundles, CheckFinalState

STARTERS = 16
HEAD_START = 0.4  # seconds until they begin, in bundle_name all of them are forked


@pytest.fixture(scope="session")
def transactional(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """A bundle whose statements all run in transactions: only these are fenced without the lock."""
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
        ("BEGIN", "UPDATE counter SET n = n + 1", "INSERT INTO notes SELECT -6 FROM pg_sleep(0.002)", "COMMIT"),
        ("SET LOCAL my.flag = '7'", "INSERT INTO notes VALUES (-current_setting('my.flag')::integer)"),
    ]
    return (str(write(tmp_path_factory.mktemp("transactional"), contents(files))),)


@pytest.mark.parametrize("mode", ["ordinary", "strict", "unlocked"])
def test_concurrent_start(
    database: str,
    fork_server: ForkServer,
    transactional: Bundles,
    generated: Bundles,
    check_final_state: CheckFinalState,
    mode: str,
) -> None:
    """With lock and fence, only the lock, or only the fence, everything is applied exactly once.

    The ordinary runner's bundle includes nontransactional statements, and DISCARD ALL, bundle_name releases the lock.
    """
    bundle = generated if mode == "ordinary" else transactional
    at = time.time() + HEAD_START
    runners = [fork_server.start(database, bundle, mode=mode, at=at) for _ in range(STARTERS)]
    ends = [runner.wait() for runner in runners]
    assert {end.error for end in ends} == {None}, [end.message for end in ends]
    tags = [tag for end in ends for tag in end.applied]
    assert len(tags) == len(set(tags)) > 0
    check_final_state(database, bundle)
    with psycopg.connect(database, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM drizzle.__drizzle_migrations").fetchone() == (len(tags),)


@pytest.mark.parametrize("bundle_name", ["packaged", "generated"])
def test_concurrent_start_when_the_lock_holder_is_killed(
    database: str, fork_server: ForkServer, generated: Bundles, check_final_state: CheckFinalState, bundle_name: str
) -> None:
    """Another runner continues in its own run; none has to be started again."""
    bundle = PACKAGED if bundle_name == "packaged" else generated
    at = time.time() + HEAD_START
    runners = [fork_server.start(database, bundle, at=at) for _ in range(STARTERS)]
    with psycopg.connect(database, autocommit=True) as connection:
        killed = _kill_the_holder(connection, {runner.pid: runner for runner in runners})
    ends = [runner.wait() for runner in runners if runner is not killed]
    assert {end.error for end in ends} == {None}, [end.message for end in ends]
    check_final_state(database, bundle)


def _kill_the_holder(connection: psycopg.Connection, runners: dict[int, Runner]) -> Runner:
    """Wait for a runner that holds the lock, kill it, and return it."""
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
