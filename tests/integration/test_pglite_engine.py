"""PGlite's engine after kills, with concurrent processes, on a full disk and with long paths."""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from tests.support.scratch import make_scratch

from mosaic_gateway.engines.base import EngineBusyError, EngineStartError, ForeignClusterError
from mosaic_gateway.engines.pglite.data_files import data_directory, lock_file, running_conninfo
from mosaic_gateway.engines.pglite.engine import Pglite
from mosaic_gateway.engines.postgres.configuration import socket_path
from mosaic_gateway.engines.postgres.engine_lock import read_record
from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.identity import ProcessIdentity, identify, is_running

pytestmark = pytest.mark.slow

LIMIT = 60.0  # seconds
BUSY = b"SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 1000000) b"
OWNER = """
import os, signal, sys
from pathlib import Path
from mosaic_gateway.config import Config
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.engines.factory import engine_for
engine = engine_for(Config(home=Home(Path(sys.argv[1])), engine=EngineName.PGLITE))
engine.start()
print(engine.conninfo(), flush=True)
signal.pause()
"""


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until *condition* is true."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {LIMIT} s"
        time.sleep(0.01)


def session(engine: Pglite) -> psycopg.Connection:
    """Open a session of *engine*."""
    return connect(engine.conninfo(), application_name="engine test")


def sidecar_of(home: Home) -> ProcessIdentity:
    """Return the sidecar from the home's lock record."""
    record = read_record(home, lock_file(home))
    assert record is not None
    assert record.postmaster is not None
    return record.postmaster


@contextmanager
def owner_process(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Run the engine of *home* in another process, like a gateway."""
    argv = [sys.executable, "-c", OWNER, str(home.path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], LIMIT)
        assert ready
        assert process.stdout.readline(), "the engine did not start"
        try:
            yield process
        finally:
            process.kill()


def sockets_of(engine: Pglite) -> Path:
    """Return the directory of the engine's socket."""
    return Path(str(psycopg.conninfo.conninfo_to_dict(engine.conninfo())["host"]))


def values(engine: Pglite, table: str) -> list[int]:
    """Return the values of column ``n`` of *table*."""
    with closing(session(engine)) as connection:
        return [row[0] for row in connection.execute(f"SELECT n FROM {table} ORDER BY n".encode())]


def test_sidecar_exits_with_its_owner(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """When the owner is killed, the sidecar exits and the lock is released; committed data is retained."""
    with owner_process(pglite_home) as owner:
        conninfo = running_conninfo(pglite_home)
        assert conninfo is not None
        with closing(connect(conninfo, application_name="engine test")) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS owned (n int)")
            connection.execute("INSERT INTO owned VALUES (1)")
        sidecar = sidecar_of(pglite_home)
        owner.kill()
        owner.wait()
        until(lambda: not is_running(sidecar), "the sidecar ends")
    assert running_conninfo(pglite_home) is None
    engine = make_pglite()
    engine.start()
    assert values(engine, "owned")[-1] == 1


def test_busy_orphaned_sidecar_is_ended(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """An orphaned sidecar that a query keeps busy holds the lock until the next start ends it and reports that."""
    with owner_process(pglite_home) as owner:
        sidecar = sidecar_of(pglite_home)
        conninfo = running_conninfo(pglite_home)
        assert conninfo is not None
        with closing(connect(conninfo, application_name="engine test")) as connection:
            connection.pgconn.send_query(BUSY)
            time.sleep(0.5)
            owner.kill()
            owner.wait()
            engine = make_pglite()
            engine.start()
        assert not is_running(sidecar)
    assert f"pid {sidecar.pid}" in (engine.verify().recovered or "")


@pytest.mark.parametrize("rival", ["engine", "verb"])
def test_second_engine_is_refused(make_pglite: Callable[..., Pglite], pglite_home: Home, rival: str) -> None:
    """The directory is not opened a second time; the error names the process that holds it."""
    with owner_process(pglite_home) as owner:
        engine = make_pglite(published=rival == "engine")
        with pytest.raises(EngineBusyError, match=f"process {owner.pid}"):
            engine.start()
        assert not engine.alive()


def test_lock_held_by_a_foreign_process(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """A foreign program that holds the lock is not ended; the error names its pid."""
    engine = make_pglite()
    engine.start()
    engine.stop()
    with lock_file(pglite_home).open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(EngineBusyError, match=f"foreign process: {os.getpid()}"):
            engine.start()
    engine.start()
    assert engine.alive()


def test_sidecar_holds_the_lock(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """Even after the parent has closed its descriptor, the lock is held while the sidecar runs."""
    engine = make_pglite()
    engine.start()
    sidecar = sidecar_of(pglite_home)
    engine._lock.release()
    with lock_file(pglite_home).open("rb") as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    engine.stop()
    assert not is_running(sidecar)


def test_killed_sidecar_is_restarted(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """SIGKILL during a series of commits loses no acknowledged commit."""
    engine = make_pglite()
    engine.start()
    with closing(session(engine)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS retained (n int)")
        connection.execute("TRUNCATE retained")
        for number in range(50):
            connection.execute("INSERT INTO retained VALUES (%s)", (number,))
        os.kill(sidecar_of(pglite_home).pid, signal.SIGKILL)
        until(lambda: not engine.alive(), "the engine notices")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    engine.start()
    assert values(engine, "retained") == list(range(50))
    assert "recovered from a crash" in (engine.verify().recovered or "")


def test_stale_files_are_ignored(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """A stale socket, and a record whose pids now belong to other processes, do not prevent the next start."""
    engine = make_pglite()
    engine.start()
    sockets = sockets_of(engine)
    record = lock_file(pglite_home).read_bytes()
    engine.stop()
    assert identify(os.getpid()) is not None
    for text in (record, record.replace(str(sidecar_pid(record)).encode(), str(os.getpid()).encode()), b"{", b""):
        lock_file(pglite_home).write_bytes(text)
        socket_path(sockets).touch()
        assert running_conninfo(pglite_home) is None
        engine.start()
        engine.stop()


def sidecar_pid(record: bytes) -> int:
    """Return the sidecar's pid from a lock record."""
    return int(json.loads(record)["postmaster"]["pid"])


def test_path_too_long_for_a_socket(make_pglite: Callable[..., Pglite], pglite_home: Home, scratch: Path) -> None:
    """The socket is then created outside of the home; spaces and non-ASCII letters in the path work."""
    home = copy_of(pglite_home, make_scratch(scratch, "ö " * 45))
    engine = make_pglite(home)
    engine.start()
    with closing(session(engine)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    directory = sockets_of(engine)
    assert not directory.is_relative_to(home.path)
    assert directory.stat().st_mode & 0o777 == 0o700
    assert socket_path(directory).stat().st_mode & 0o777 == 0o600
    engine.stop()
    shutil.rmtree(directory)


def test_socket_and_data_are_private(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """The directory has mode 0700, the socket 0600; PGlite's own files are in private directories."""
    engine = make_pglite()
    engine.start()
    assert pglite_home.run.stat().st_mode & 0o777 == 0o700
    assert socket_path(pglite_home.run).stat().st_mode & 0o777 == 0o600
    created = (data_directory(pglite_home), *data_directory(pglite_home).rglob("*"))
    assert not [path for path in created if path.is_dir() and path.stat().st_mode & 0o077]
    assert pglite_home.pglite_log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("version", ["16", "17", "19", "x", None])
def test_data_of_other_versions_is_refused(
    make_pglite: Callable[..., Pglite], pglite_home: Home, scratch: Path, version: str | None
) -> None:
    """PG_VERSION is checked before anything is opened; the error names the version and what to do."""
    home = copy_of(pglite_home, scratch)
    marker = data_directory(home) / "PG_VERSION"
    marker.unlink() if version is None else marker.write_text(f"{version}\n")
    before = sorted(path.stat().st_mtime_ns for path in data_directory(home).rglob("*"))
    with pytest.raises(ForeignClusterError) as caught:
        make_pglite(home).start()
    if version in {"16", "17"}:
        assert f"PostgreSQL {version}" in caught.value.message
        assert "pgDump" in str(caught.value.hint)
    assert sorted(path.stat().st_mtime_ns for path in data_directory(home).rglob("*")) == before


def test_error_contains_the_log(make_pglite: Callable[..., Pglite], pglite_home: Home, scratch: Path) -> None:
    """If PGlite cannot open the data, the error contains PGlite's log, and no process remains."""
    home = copy_of(pglite_home, scratch)
    (data_directory(home) / "global" / "pg_control").write_bytes(bytes(8192))
    engine = make_pglite(home)
    with pytest.raises(EngineStartError, match="incompatible with server") as caught:
        engine.start()
    assert str(home.pglite_log) in str(caught.value.hint)
    assert not engine.alive()


def test_begin_is_completed_by_start_or_stop(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """After `begin` the sidecar holds the lock and is recorded; `start` completes the start, `stop` ends it."""
    engine = make_pglite()
    engine.begin()
    sidecar = sidecar_of(pglite_home)
    with pytest.raises(EngineBusyError):
        make_pglite().begin()
    engine.start()
    assert sidecar_of(pglite_home) == sidecar
    assert engine.verify().vector_version is not None
    engine.stop()
    engine.begin()
    sidecar = sidecar_of(pglite_home)
    engine.stop()
    assert not is_running(sidecar)
    engine.start()
    assert engine.alive()


def test_sidecar_that_exits_after_begin(make_pglite: Callable[..., Pglite], pglite_home: Home, scratch: Path) -> None:
    """The error of `start` contains the sidecar's log, as without `begin`; the next start is a new one."""
    home = copy_of(pglite_home, scratch)
    control = data_directory(home) / "global" / "pg_control"
    content = control.read_bytes()
    control.write_bytes(bytes(8192))
    engine = make_pglite(home)
    engine.begin()
    until(lambda: not engine.alive(), "the sidecar ends")
    with pytest.raises(EngineStartError, match="incompatible with server"):
        engine.start()
    control.write_bytes(content)
    engine.start()
    assert engine.alive()


def test_pgvector_of_an_older_release_is_updated(make_pglite: Callable[..., Pglite]) -> None:
    """Data created by an earlier PGlite 0.5 is opened, and its extension updated to the loaded version."""
    engine = make_pglite()
    engine.start()
    with closing(session(engine)) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("UPDATE pg_extension SET extversion = '0.8.6' WHERE extname = 'vector'")
    engine.stop()
    engine.start()
    assert "pgvector 0.8.6 was updated" in (engine.verify().recovered or "")
    with closing(session(engine)) as connection:
        connection.execute("DROP EXTENSION vector CASCADE")


def test_idle_memory(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """The sidecar occupies less than 200 MB after use."""
    engine = make_pglite()
    engine.start()
    engine.verify()
    engine.stop()
    engine.start()
    with closing(session(engine)) as connection:
        connection.execute("SELECT count(*) FROM pg_class")
    status = Path(f"/proc/{sidecar_of(pglite_home).pid}/status")
    if not status.is_file():
        pytest.skip("no /proc on this system")
    resident = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    assert int(resident.split()[1]) < 200 * 1024


def test_acknowledged_commits_survive_thirty_kills(make_pglite: Callable[..., Pglite], pglite_home: Home) -> None:
    """SIGKILL at a random moment during commits, thirty times, loses no acknowledged commit."""
    engine = make_pglite()
    engine.start()
    with closing(session(engine)) as connection:
        connection.execute(b"DROP TABLE IF EXISTS stream; CREATE TABLE stream (n int)")
    acknowledged: list[int] = []
    for _ in range(30):
        engine.start()
        until_killed = time.monotonic() + random.uniform(0.05, 0.4)
        with suppress(psycopg.OperationalError), closing(session(engine)) as connection:
            killed = False
            while True:
                if not killed and time.monotonic() > until_killed:
                    os.kill(sidecar_of(pglite_home).pid, signal.SIGKILL)
                    killed = True
                number = len(acknowledged)
                connection.execute("INSERT INTO stream VALUES (%s)", (number,))
                acknowledged.append(number)
        until(lambda: not engine.alive(), "the engine notices")
    engine.start()
    assert not set(acknowledged) - set(values(engine, "stream"))
    assert len(acknowledged) > 100


def test_full_disk(make_pglite: Callable[..., Pglite], pglite_home: Home, small_disk: Callable[[int], Path]) -> None:
    """On a full disk statements fail or the sidecar exits; with free space again, committed data is complete."""
    home = copy_of(pglite_home, small_disk(160))
    engine = make_pglite(home)
    engine.start()
    committed = fill(engine)
    engine.stop()
    (home.data / ".ballast").unlink(missing_ok=True)
    engine.start()
    assert values(engine, "filler") == list(range(committed))
    engine.stop()


def fill(engine: Pglite) -> int:
    """Write until a statement fails; return the number of acknowledged rows."""
    committed = 0
    with suppress(psycopg.Error), closing(session(engine)) as connection:
        connection.execute("CREATE TABLE filler (n int, t text)")
        while committed < 5000:
            connection.execute("INSERT INTO filler SELECT %s, repeat(md5(random()::text), 4000)", (committed,))
            committed += 1
    return committed


def copy_of(home: Home, directory: Path) -> Home:
    """Copy data and programs of the stopped *home* to *directory*."""
    for name in ("data", "runtime"):
        shutil.copytree(home.path / name, directory / name)
    return Home(directory)
