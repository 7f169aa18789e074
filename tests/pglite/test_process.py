from __future__ import annotations

import re
import shutil
import signal
import socket
import stat
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.pglite.process import StartSidecar, eventually
from tests.pglite.wire import TERMINATE, client, fields, query

IDLE_MEMORY = 200_000_000


def test_ready(start_sidecar: StartSidecar) -> None:
    """The first report describes the process; the socket is private; standard output contains only reports."""
    sidecar = start_sidecar()
    ready = sidecar.events[0]
    assert (ready["event"], ready["pid"], ready["created"]) == ("ready", sidecar.process.pid, False)
    assert re.fullmatch(r"v\d+\.\d+\.\d+", ready["node"])
    assert ready["postgres"].startswith("18.")
    assert ready["vector"] == "0.8.7"
    mode = (sidecar.directory / ".s.PGSQL.5432").stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE created (a int)")
    assert sidecar.stop() == 0
    assert [event["event"] for event in sidecar.events if event] == ["ready", "stopped"]


def test_creation(start_sidecar: StartSidecar, tmp_path: Path) -> None:
    """A missing data directory is created with private permissions; the next start opens it."""
    sidecar = start_sidecar(directory=tmp_path)
    assert sidecar.events[0]["created"] is True
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) & 0o077 == 0
    assert sidecar.stop() == 0
    assert start_sidecar(directory=tmp_path).events[0]["created"] is False


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "stdin EOF"])
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_stop(start_sidecar: StartSidecar, end: str, *, busy: bool) -> None:
    """Signals and end of file on standard input shut the database down cleanly, also during transactions."""
    sidecar = start_sidecar()
    with closing(sidecar.connect()) as first, closing(sidecar.connect()) as second, client(sidecar.directory) as raw:
        first.execute("CREATE TABLE t (a int)")
        if busy:
            second.execute("BEGIN; INSERT INTO t VALUES (1)")
            raw.send(query("SELECT 1"))
        if end == "stdin EOF":
            assert sidecar.process.stdin is not None
            sidecar.process.stdin.close()
        else:
            sidecar.process.send_signal(getattr(signal, end))
        assert sidecar.wait() == 0
        assert fields(raw.rest()[-1][1])["C"] == "57P01"
        with pytest.raises(psycopg.OperationalError):
            first.execute("SELECT 1")
    assert sidecar.events[1] == {"event": "stopped", "why": end}
    assert "database system is shut down" in sidecar.log()
    assert not (sidecar.directory / ".s.PGSQL.5432").exists()
    with start_sidecar(directory=sidecar.directory).connect() as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


@pytest.mark.parametrize("client_is", ["connected", "half closed", "closed"])
def test_stop_waits_for_a_statement(start_sidecar: StartSidecar, client_is: str) -> None:
    """A statement that runs at the time of SIGTERM is completed and answered before the connection is closed."""
    sidecar = start_sidecar()
    with closing(sidecar.connect()) as connection:
        connection.execute("CREATE TABLE t (a int)")
    with client(sidecar.directory) as raw:
        for _ in range(2):  # the answers to the first queries take a different path
            raw.ask("SELECT 1")
        raw.send(query("COPY t TO '/pglite/data/begun'; INSERT INTO t SELECT 1 FROM pg_sleep(1)"))
        assert eventually((sidecar.directory / "data" / "begun").exists)
        if client_is == "half closed":
            raw.socket.shutdown(socket.SHUT_WR)
        elif client_is == "closed":
            raw.close()
        sidecar.process.send_signal(signal.SIGTERM)
        if client_is != "closed":
            assert [kind for kind, _ in raw.rest()][:3] == ["C", "C", "Z"]
    assert sidecar.wait() == 0
    assert sidecar.events[1]["event"] == "stopped"
    with closing(start_sidecar(directory=sidecar.directory).connect()) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_stop_immediately_after_a_disconnect(start_sidecar: StartSidecar) -> None:
    """The database shuts down cleanly whatever the last client was doing when it disconnected."""
    sidecar = start_sidecar()
    for last in (TERMINATE, b"", query("SELECT 1"), query("BEGIN") + TERMINATE, query("BEGIN; SELECT 1")):
        with client(sidecar.directory) as raw:
            for _ in range(2):
                raw.ask("SELECT 1")
            raw.send(last)
        assert sidecar.stop() == 0
        assert sidecar.events[1]["event"] == "stopped"
        sidecar = start_sidecar(directory=sidecar.directory)


def test_stop_cancels_an_endless_statement(start_sidecar: StartSidecar) -> None:
    """An endless statement is cancelled, and the database shuts down cleanly."""
    sidecar = start_sidecar()
    with client(sidecar.directory) as raw:
        raw.send(query("COPY (SELECT) TO '/pglite/data/begun'; SELECT pg_sleep(3600)"))
        assert eventually((sidecar.directory / "data" / "begun").exists)
        assert sidecar.stop() == 0
    assert "database system is shut down" in sidecar.log()


def test_crash_of_the_backend(start_sidecar: StartSidecar) -> None:
    """A crash of the backend ends the process with exit code 70 and a report; committed data is retained."""
    sidecar = start_sidecar()
    wal, away = (sidecar.directory / "data" / name for name in ("pg_wal", "away"))
    with closing(sidecar.connect()) as connection:
        connection.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        wal.rename(away)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT pg_switch_wal()")
            connection.execute("INSERT INTO t VALUES (2)")
    assert sidecar.wait() == 70
    assert sidecar.events[1]["event"] == "fatal"
    assert "PANIC" in sidecar.log()
    away.rename(wal)
    with closing(start_sidecar(directory=sidecar.directory).connect()) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


def test_start_failures(start_sidecar: StartSidecar, tmp_path: Path, modules: Path) -> None:
    """Each reason for a failed start has its own code."""
    for name, code, options in (
        ("version", "WRONG_VERSION", ()),
        ("broken", "OPEN_FAILED", ()),
        ("modules", "MODULES_MISSING", ("--modules", str(tmp_path))),
        ("option", "USAGE", ("--queue", "many")),
        ("unknown", "USAGE", ("--frobnicate",)),
        ("socket", "SOCKET", ("--socket", str(tmp_path / "no" / "such" / "directory"))),
    ):
        directory = tmp_path / name
        (directory / "data").mkdir(parents=True)
        if name == "version":
            (directory / "data" / "PG_VERSION").write_text("17\n")
        elif name == "broken":
            (directory / "data" / "PG_VERSION").write_text("18\n")
        elif name == "socket":
            shutil.rmtree(directory / "data")
        sidecar = start_sidecar(*options, directory=directory)
        failed = sidecar.events[0]
        assert (failed["event"], failed["code"]) == ("failed", code), failed
        assert sidecar.wait() == 2
        if name == "broken":
            assert "could not access the server configuration file" in failed["stderr"]


@pytest.mark.parametrize(
    "instead",
    [
        "FS.filesystems={MEMFS,IDBFS,NODEFS:{...NODEFS,stream_ops:undefined},PROXYFS}",
        "NODEFS.stream_ops.fsync=()=>0,FS.filesystems={MEMFS,IDBFS,NODEFS,PROXYFS}",
    ],
    ids=["missing", "defined"],
)
def test_pglite_without_the_fsync_hook(
    start_sidecar: StartSidecar, modules: Path, tmp_path: Path, instead: str
) -> None:
    """If the hook cannot be installed, or PGlite defines it itself, the sidecar refuses to start."""
    altered = tmp_path / "node_modules"
    shutil.copytree(modules, altered)
    code = "FS.filesystems={MEMFS,IDBFS,NODEFS,PROXYFS}"
    files = [file for file in (altered / "@electric-sql" / "pglite" / "dist").glob("*.js") if code in file.read_text()]
    assert files
    for file in files:
        file.write_text(file.read_text().replace(code, instead))
    sidecar = start_sidecar("--modules", str(altered))
    assert (sidecar.events[0]["event"], sidecar.events[0]["code"]) == ("failed", "FSYNC_HOOK_MISSING")
    assert sidecar.wait() == 2


def test_idle_memory(start_sidecar: StartSidecar) -> None:
    """After a start on existing data the process occupies less than 200 MB."""
    sidecar = start_sidecar()
    with sidecar.connect() as connection:
        connection.execute("SELECT 1")
        assert sidecar.memory < IDLE_MEMORY
