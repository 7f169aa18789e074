from __future__ import annotations

import re
import shutil
import signal
import threading
from collections import Counter
from pathlib import Path

import psycopg
import pytest
from tests.pglite.process import Sidecar, StartSidecar

KILLS = 30
COMMITS = 200


@pytest.mark.slow
def test_kill_9_loses_nothing(start_sidecar: StartSidecar) -> None:
    """After SIGKILL during commits, thirty times, each acknowledged row exists exactly once."""
    sidecar = start_sidecar()
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE rows (a int PRIMARY KEY)")
    acknowledged: list[int] = []
    for kill in range(KILLS):
        thread = threading.Timer(0.05 + 0.01 * (kill % 10), sidecar.process.kill)
        with sidecar.connect() as connection:
            thread.start()
            with pytest.raises(psycopg.OperationalError):
                for row in range(kill * 100_000, (kill + 1) * 100_000):
                    connection.execute("INSERT INTO rows VALUES (%s)", [row])
                    acknowledged.append(row)
        thread.join()
        assert sidecar.wait() == -signal.SIGKILL
        sidecar = start_sidecar(directory=sidecar.directory)
        with sidecar.connect() as connection:
            rows = Counter(row for (row,) in connection.execute("SELECT a FROM rows"))
        assert [row for row in acknowledged if rows[row] != 1] == []
        assert len(rows) - len(acknowledged) <= kill + 1  # at most one unacknowledged row for each kill
    assert len(acknowledged) > KILLS


def test_each_commit_reaches_the_disk(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    """Under strace there is at least one fsync for each acknowledged commit, before the acknowledgement."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace on PATH")
    calls = tmp_path / "calls"
    sidecar = start_sidecar(wrapper=(strace, "-f", "-o", str(calls), "-e", "trace=fsync,fdatasync"))
    if not sidecar.events[0]:
        pytest.skip("strace may not trace here")
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE synced (a int)")
        before = synced(calls)
        for row in range(COMMITS):
            connection.execute("INSERT INTO synced VALUES (%s)", [row])
            assert synced(calls) > before + row, f"commit {row} was acknowledged before it was on the disk"
    sidecar.node.send_signal(signal.SIGTERM)
    assert sidecar.wait() == 0


def synced(calls: Path) -> int:
    """Return the number of successful calls so far."""
    return len(re.findall(r"f(?:data)?sync.*= 0$", calls.read_text(), re.MULTILINE))


def test_no_fsync(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    """With --no-fsync nothing is synced, which validates the count of the test above."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("no strace on PATH")
    calls = tmp_path / "calls"
    sidecar: Sidecar = start_sidecar(
        "--no-fsync", wrapper=(strace, "-f", "-o", str(calls), "-e", "trace=fsync,fdatasync")
    )
    if not sidecar.events[0]:
        pytest.skip("strace may not trace here")
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE unsynced (a int); INSERT INTO unsynced VALUES (1)")
        assert synced(calls) == 0
