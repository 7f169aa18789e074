"""Tests of the embedded engine's small files: pid file, configuration, lock record, self-test record."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from mosaic_gateway.engines.base import EngineBusyError
from mosaic_gateway.engines.postgres.cluster import cluster_of
from mosaic_gateway.engines.postgres.configuration import command_line_settings, write_configuration
from mosaic_gateway.engines.postgres.engine_lock import (
    EngineLock,
    EngineRecord,
    lock_file,
    read_record,
    running_conninfo,
)
from mosaic_gateway.engines.postgres.postmaster import PidFile, processes_of, read_pid_file
from mosaic_gateway.engines.postgres.self_test import SelfTestRecord
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.environment import runtime_directory
from mosaic_gateway.process.identity import own_identity


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12\n/data\n1\n5432\n/run\n\n  1 2\nready   \n", PidFile(12, "ready")),
        ("12\n/data\n1\n5432\n/run\n\n  1 2\nstarting\n", PidFile(12, "starting")),
        ("12\n/data\n", PidFile(12, "")),
        ("-12\n", PidFile(12, "")),  # a stand-alone backend
        ("", None),
        ("x\n", None),
    ],
)
def test_pid_file(tmp_path: Path, text: str, expected: PidFile | None) -> None:
    """A postmaster.pid may be incomplete or malformed."""
    (tmp_path / "postmaster.pid").write_text(text)
    assert read_pid_file(tmp_path) == expected


def test_no_processes(tmp_path: Path) -> None:
    """No PostgreSQL process runs on an empty or missing directory."""
    assert processes_of(tmp_path) == []
    assert processes_of(tmp_path / "gone") == []


def test_settings_for_each_version(tmp_path: Path) -> None:
    """A setting unknown to an older server is omitted for it; durability is always on."""
    shown = {}
    for major in (15, 18):
        write_configuration(tmp_path, major)
        shown[major] = (tmp_path / "postgresql.conf").read_text()
        assert "fsync = 'on'" in shown[major]
        assert "synchronous_commit = 'on'" in shown[major]
    assert "io_method" in shown[18]
    assert "io_method" not in shown[15]


def test_settings_are_rewritten_only_if_changed(tmp_path: Path) -> None:
    """Only files that differ are written again."""
    write_configuration(tmp_path, 18)
    before = {path: path.stat().st_ino for path in tmp_path.iterdir()}
    write_configuration(tmp_path, 18)
    assert {path: path.stat().st_ino for path in tmp_path.iterdir()} == before
    (tmp_path / "pg_hba.conf").write_text("local all all trust\n")
    write_configuration(tmp_path, 18)
    assert "trust" not in (tmp_path / "pg_hba.conf").read_text()


def test_socket_directory_is_quoted() -> None:
    """A path with commas and quotation marks is quoted."""
    assert '-cunix_socket_directories="/a,b ""c"""' in command_line_settings(Path('/a,b "c"'))


def test_cluster_names(tmp_path: Path) -> None:
    """The cluster of the latest major version is returned; temporary and other directories are ignored."""
    home = Home(tmp_path)
    assert cluster_of(home) is None
    for name in (".postgres-18.0123abcd.tmp", "postgres-old", "postgres-9", "postgres-18", "pglite"):
        (home.data / name).mkdir(parents=True)
    assert cluster_of(home) == home.data / "postgres-18"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"holder": 3}', '{"holder": {"pid": 1}}', "null"])
def test_unreadable_lock_record(tmp_path: Path, content: str) -> None:
    """An empty or incomplete lock file has no record."""
    home = Home(tmp_path)
    home.run.mkdir()
    lock_file(home).write_text(content)
    assert read_record(home) is None
    assert running_conninfo(home) is None


def test_record_of_dead_processes(tmp_path: Path) -> None:
    """A record is valid only while exactly the processes that it names are running."""
    home = Home(tmp_path)
    home.run.mkdir()
    (home.run / ".s.PGSQL.5432").touch()
    living = own_identity().to_dict()
    dead = {"pid": os.getpid(), "started": 1.0}
    for holder, postmaster, running in ((living, living, True), (dead, living, False), (living, dead, False)):
        record = {"holder": holder, "postmaster": postmaster, "sockets": str(home.run)}
        lock_file(home).write_text(json.dumps(record))
        assert (running_conninfo(home) is not None) is running


def test_lock_is_acquired_and_released(tmp_path: Path) -> None:
    """The holder may acquire the lock again; releasing it clears the record."""
    home = Home(tmp_path)
    home.run.mkdir()
    lock = EngineLock(home)
    lock.acquire()
    lock.acquire()
    record = read_record(home)
    assert record is not None
    assert record.holder.pid == os.getpid()
    assert lock_file(home).stat().st_mode & 0o777 == 0o600
    lock.release()
    lock.release()
    assert read_record(home) is None


def test_lock_of_another_holder(tmp_path: Path) -> None:
    """The error names the holder, whose record has the form that earlier versions read."""
    home = Home(tmp_path)
    home.run.mkdir()
    lock = EngineLock(home)
    lock.acquire()
    with pytest.raises(EngineBusyError, match=f"process {os.getpid()}"):
        EngineLock(home).acquire()
    holder = own_identity()
    assert json.loads(lock_file(home).read_text()) == {"holder": holder.to_dict(), "postmaster": None, "sockets": None}
    lock.write(EngineRecord(holder=holder, postmaster=holder, sockets=home.run))
    lock.write(EngineRecord(holder=holder))
    assert json.loads(lock_file(home).read_text()) == {"holder": holder.to_dict(), "postmaster": None, "sockets": None}
    lock.release()
    assert lock_file(home).read_bytes() == b""
    with pytest.raises(ValueError, match="not held"):
        lock.write(EngineRecord(holder=holder))


def test_a_process_that_inherits_the_descriptor_holds_the_lock(tmp_path: Path) -> None:
    """Also after the first holder has released it."""
    home = Home(tmp_path)
    home.run.mkdir()
    lock = EngineLock(home)
    lock.acquire()
    assert lock.descriptor is not None
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.descriptor]) as process:
        lock.release()
        with pytest.raises(EngineBusyError):
            EngineLock(home).acquire()
        process.kill()
    lock.acquire()
    lock.release()


def test_self_test_record(tmp_path: Path) -> None:
    """A pass on one CPU and version does not count for another."""
    path = tmp_path / "self-test.json"
    record = SelfTestRecord(path, "18.6", "cpu a")
    assert not record.passed()
    record.write()
    assert record.passed()
    assert not SelfTestRecord(path, "18.6", "cpu b").passed()
    path.write_text("{half")
    assert not record.passed()


def test_runtime_directory() -> None:
    """Only an absolute XDG_RUNTIME_DIR is used."""
    assert runtime_directory({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7")
    assert runtime_directory({"XDG_RUNTIME_DIR": "somewhere"}) == runtime_directory({}) == Path("/tmp")  # noqa: S108 - as above
