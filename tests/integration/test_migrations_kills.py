"""Runners and backends that are killed at random times: in the end every statement took effect exactly once."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest

from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.failure import ConnectionLostError
from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, make_lock
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "--> statement-breakpoint\n"
FILES, STATEMENTS, KILLS = 12, 25, 15
LIMIT = 60.0  # seconds
#: Forks a runner for each delay, kills it after the delay, and prints its exit code. It forks from a process
#: that has imported everything, so that the delay falls into the run itself.
FORK_SERVER = """
import os, pathlib, signal, sys, time
import psycopg
import pytest
from mosaic_gateway.migrations.bundle import Bundle, LedgerName
from mosaic_gateway.migrations.gate import read_directory
from mosaic_gateway.migrations.runner import migrate

ledger = LedgerName("drizzle", "__drizzle_migrations")
bundle = Bundle.from_files("test", read_directory(pathlib.Path(sys.argv[2])), ledger=ledger)
for delay in map(float, sys.argv[3:]):
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            with psycopg.connect(sys.argv[1], autocommit=True) as connection:
                migrate(bundle, connection)
            code = 0
        finally:
            os._exit(code)
    time.sleep(delay)
    os.kill(pid, signal.SIGKILL)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def inserts() -> dict[str, bytes]:
    """Return the files of a bundle of many short statements, each of which inserts its number."""
    files = {"m00": "CREATE TABLE notes (n integer NOT NULL);"}
    for file in range(FILES):
        numbers = range(file * STATEMENTS, (file + 1) * STATEMENTS)
        files[f"m{file + 1:02}"] = MARK.join(f"INSERT INTO notes SELECT {n} FROM pg_sleep(0.001);" for n in numbers)
    contents = {f"{tag}.sql": text.encode() for tag, text in files.items()}
    entries = [{"tag": tag, "when": 900 - index} for index, tag in enumerate(files)]
    contents[JOURNAL_NAME] = json.dumps({"entries": entries}).encode()
    contents[LOCK_NAME] = make_lock("test", contents)
    return contents


CONTENTS = inserts()
BUNDLE = Bundle.from_files("test", CONTENTS, ledger=LedgerName("drizzle", "__drizzle_migrations"))


def assert_exact(connection: Connection) -> None:
    """Verify rows, ledger and progress against the bundle."""
    rows = [n for (n,) in connection.execute("SELECT n FROM notes ORDER BY n")]
    assert rows == list(range(FILES * STATEMENTS))
    state = read_state(connection, BUNDLE)
    assert [row.hash for row in state.applied] == [m.hash for m in BUNDLE.migrations]
    assert read_plan(connection, BUNDLE).up_to_date


def progress(connection: Connection) -> int:
    """Return the number of applied statements according to the progress rows."""
    return sum(row.applied for row in read_state(connection, BUNDLE).progress.values())


@pytest.mark.slow
def test_killed_runners_lose_and_repeat_nothing(database: str, tmp_path: Path) -> None:
    """After SIGKILLs at random times and one complete run, every row exists once."""
    for name, content in CONTENTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with psycopg.connect(database, autocommit=True) as connection:
        longest = 0.15  # seconds; the progress of a run in that time depends on the load of the machine
        killed = kill(database, tmp_path, longest)
        while progress(connection) == 0:
            longest *= 2
            assert longest < LIMIT / KILLS
            killed += kill(database, tmp_path, longest)
        assert killed >= KILLS // 2, "too few runners were killed during their run"
        rows = connection.execute("SELECT count(*) FROM notes").fetchone()
        assert rows == (progress(connection) - 1,)
        migrate(BUNDLE, connection, lock_timeout=LIMIT)
        assert_exact(connection)


def kill(database: str, folder: Path, longest: float) -> int:
    """Start and kill runners after at most *longest* seconds each; return how many were killed before they ended."""
    delays = [str(random.uniform(0.02, longest)) for _ in range(KILLS)]
    done = subprocess.run(
        [sys.executable, "-c", FORK_SERVER, database, str(folder), *delays],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    codes = done.stdout.split()
    assert len(codes) == KILLS
    assert set(codes) <= {"-9", "0"}, done.stderr
    return codes.count("-9")


def test_terminated_backends_lose_and_repeat_nothing(database: str) -> None:
    """A runner whose backend is terminated reports it, and the next run resumes."""
    lost = applied = 0
    longest = 0.08  # seconds; the progress of a run in that time depends on the load of the machine
    deadline = time.monotonic() + LIMIT
    with psycopg.connect(database, autocommit=True) as other:
        while time.monotonic() < deadline:
            with psycopg.connect(database, autocommit=True) as connection:
                pid = connection.info.backend_pid
                timer = threading.Timer(random.uniform(0.005, longest), terminate, (database, pid))
                timer.start()
                try:
                    migrate(BUNDLE, connection, lock_timeout=LIMIT)
                    break
                except ConnectionLostError:
                    lost += 1
                finally:
                    timer.join()
            before, applied = applied, progress(other)
            longest *= 1 if applied > before else 1.2
        assert lost > 3
        assert_exact(other)


def terminate(conninfo: str, pid: int) -> None:
    """Terminate the backend *pid*."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
