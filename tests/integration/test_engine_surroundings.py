"""The embedded engine in unusual environments: paths, settings, variables, full disks, unsupported CPUs."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from mosaic_gateway.config import Config
from mosaic_gateway.engines.base import (
    ClusterMissingError,
    CpuUnsupportedError,
    EngineStartError,
    UnfitAccountError,
)
from mosaic_gateway.engines.factory import engine_for
from mosaic_gateway.engines.postgres.cluster import create_cluster
from mosaic_gateway.engines.postgres.configuration import LONGEST, socket_directory, socket_path
from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
from mosaic_gateway.engines.postgres.engine_lock import read_record, running_conninfo
from mosaic_gateway.engines.postgres.postmaster import processes_of
from mosaic_gateway.engines.postgres.runtime import find_runtime, install_runtime
from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

LIMIT = 20.0  # seconds


def session(engine: EmbeddedPostgres) -> psycopg.Connection:
    """Open a session of *engine*."""
    return connect(engine.conninfo(), application_name="engine test")


def postmaster_of(home: Home) -> int:
    """Return the postmaster's pid from the home's lock record."""
    record = read_record(home)
    assert record is not None
    assert record.postmaster is not None
    return record.postmaster.pid


def until(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Wait until *condition* is true, at most *limit* seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {limit} s"
        time.sleep(0.005)


def test_started_from_a_thread_that_ends(make_embedded: Callable[..., EmbeddedPostgres]) -> None:
    """The server survives the end of the thread that called start, although parent-death signals are per thread."""
    engine = make_embedded()
    thread = threading.Thread(target=engine.start)
    thread.start()
    thread.join(LIMIT)
    time.sleep(0.2)  # a signal would have ended it within 20 ms
    assert engine.alive()
    session(engine).close()


def test_ctrl_c_spares_the_server(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home) -> None:
    """The server is in its own process group, so that a terminal's signal reaches only the gateway."""
    make_embedded().start()
    assert os.getpgid(postmaster_of(provisioned_home)) != os.getpgid(0)


def test_invalid_settings(make_embedded: Callable[..., EmbeddedPostgres], cluster: Path) -> None:
    """The error quotes the server's log, no process remains, and the server starts once the setting is removed."""
    engine = make_embedded()
    local = cluster / "postgresql.local.conf"
    local.write_text("nonsense = 'on'\n")
    try:
        with pytest.raises(EngineStartError, match='unrecognized configuration parameter "nonsense"') as caught:
            engine.start()
    finally:
        local.unlink()
    assert caught.value.details["log"].endswith("postgres.log")
    assert not engine.alive()
    assert not processes_of(cluster)
    make_embedded().start()


def test_alter_system_cannot_open_the_server(make_embedded: Callable[..., EmbeddedPostgres]) -> None:
    """No setting in a file makes the embedded server listen on the network; other settings take effect."""
    engine = make_embedded()
    engine.start()
    try:
        with closing(session(engine)) as connection:
            connection.execute("ALTER SYSTEM SET listen_addresses = '*'")
            connection.execute("ALTER SYSTEM SET work_mem = '9MB'")
        engine.stop()
        engine.start()
        with closing(session(engine)) as connection:
            shown = "SELECT current_setting('listen_addresses'), current_setting('work_mem'), current_setting('fsync')"
            assert connection.execute(shown).fetchone() == ("", "9MB", "on")
    finally:
        with closing(session(engine)) as connection:
            connection.execute("ALTER SYSTEM RESET ALL")


def test_only_the_owner_can_connect(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home) -> None:
    """The socket is in a private directory, and no other role can log in."""
    engine = make_embedded()
    engine.start()
    assert stat.S_IMODE(socket_path(provisioned_home.run).stat().st_mode) == 0o700
    assert stat.S_IMODE(provisioned_home.run.stat().st_mode) == 0o700
    parameters = {**conninfo_to_dict(engine.conninfo()), "user": "postgres"}
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(**parameters)  # type: ignore[arg-type] # a conninfo's parameters


def test_libpq_variables_are_ignored(
    make_embedded: Callable[..., EmbeddedPostgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment variables of libpq change neither the server nor the engine's sessions."""
    for name, value in (
        ("PGPORT", "1"), ("PGHOST", "example.invalid"), ("PGDATABASE", "x"), ("PGUSER", "x"), ("PGSSLMODE", "require"),
        ("PGOPTIONS", "-c timezone=Asia/Tokyo -c search_path=x"), ("PGDATA", "/nonexistent"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    engine = make_embedded()
    engine.start()
    with closing(session(engine)) as connection:
        shown = "SELECT current_setting('search_path'), current_setting('TimeZone'), current_database()"
        assert connection.execute(shown).fetchone() == ("public", "UTC", "mosaic")


@pytest.mark.parametrize("name", ["x" * 120, "with,comma", 'quote"d \\ $HOME %d é'])
def test_unusual_home_paths(
    make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home, scratch: Path,
    name: str,
) -> None:  # fmt: skip
    """A path too long for a socket, or with characters special to libpq, works."""
    home = home_at(scratch / name, provisioned_home)
    engine = make_embedded(home)
    engine.start()
    session(engine).close()
    sockets = Path(str(conninfo_to_dict(engine.conninfo())["host"]))
    assert len(os.fsencode(socket_path(sockets))) <= LONGEST
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert running_conninfo(home) == engine.conninfo()
    engine.stop()
    if sockets != home.run:
        sockets.rmdir()


def home_at(path: Path, provisioned: Home) -> Home:
    """Create a home at *path* that uses the data of *provisioned*."""
    path.mkdir(mode=0o700)
    (path / "data").symlink_to(provisioned.data)
    return Home(path)


@pytest.mark.parametrize("planted", ["link", "world-writable"])
def test_socket_directory_of_another_user(scratch: Path, planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket directory in a public directory that is a link or writable by others is not used."""
    home = Home(scratch / ("y" * 120))
    public, target = scratch / "public", scratch / "target"
    public.mkdir()
    target.mkdir(mode=0o700)
    monkeypatch.setattr("mosaic_gateway.engines.postgres.configuration.FALLBACK", public)
    directory = socket_directory(home)
    assert directory.parent == public
    directory.rmdir()
    if planted == "link":
        directory.symlink_to(target)
    else:
        directory.mkdir()
        directory.chmod(0o777)
    with pytest.raises(EngineStartError, match="not a private directory"):
        socket_directory(home)


def test_no_cluster(make_embedded: Callable[..., EmbeddedPostgres], scratch: Path) -> None:
    """A start in a home without a cluster fails and creates nothing."""
    with pytest.raises(ClusterMissingError):
        make_embedded(Home(scratch)).start()
    assert list(scratch.iterdir()) == []


@pytest.mark.root
def test_root_cannot_start_the_engine(tmp_path: Path) -> None:
    """Root is refused."""
    home = Home(tmp_path)
    install_runtime(home, postgres_bin=None)
    with pytest.raises(UnfitAccountError):
        engine_for(Config(home=home, engine=EngineName.POSTGRES)).start()


def test_disk_full_of_wal(
    make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home, small_disk: Callable[[int], Path]
) -> None:
    """A server without disk space for recovery gets that of the disk reserve; no committed row is lost."""
    disk = small_disk(320)
    home = Home(disk)
    create_cluster(home, find_runtime(provisioned_home, None))
    engine = make_embedded(home)
    engine.start()
    committed = fill_disk(engine, home, disk)
    assert not engine.alive() or (home.data / ".ballast").exists()
    engine.stop()
    engine.start()
    assert "released the disk reserve" in (engine.verify().recovered or "")
    with closing(session(engine)) as connection:
        row = connection.execute("SELECT count(*) FROM filler").fetchone()
    assert row is not None
    assert row[0] >= committed
    engine.stop()


def fill_disk(engine: EmbeddedPostgres, home: Home, disk: Path) -> int:
    """Write until the disk is full of WAL and the server crashes; return the number of acknowledged rows."""
    committed = 0
    with closing(session(engine)) as connection:
        connection.execute("CREATE TABLE filler (n int, t text)")
        with (disk / "hog").open("wb") as hog:
            os.posix_fallocate(hog.fileno(), 0, shutil.disk_usage(disk).free - (20 << 20))
        with suppress(psycopg.Error):
            for _ in range(20000):
                connection.execute("INSERT INTO filler SELECT 1, repeat(md5(random()::text), 30)")
                connection.execute("SELECT pg_switch_wal()")
                committed += 1
    until(lambda: not engine.alive(), "the server crashes on the full disk")
    return committed


def test_unsupported_cpu(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home, scratch: Path) -> None:
    """An illegal instruction in pgvector is detected by verify; the error names the CPU and alternatives."""
    home = Home(scratch)
    runtime = install_runtime(home, postgres_bin=None)
    plant_illegal_instruction(runtime.bindir.parent / "lib" / "vector.so", "l2_distance")
    (scratch / "data").symlink_to(provisioned_home.data)
    engine = make_embedded(home, runtime)
    engine.start()
    with pytest.raises(CpuUnsupportedError, match="does not run on this CPU") as caught:
        engine.verify()
    assert caught.value.details["cpu"] in caught.value.message
    assert "--postgres-bin" in str(caught.value.hint)
    assert not (home.run / "self-test.json").exists()
    assert engine.alive()


def test_self_test_runs_once(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home) -> None:
    """A pass is recorded, and the test is not repeated."""
    record = provisioned_home.run / "self-test.json"
    engine = make_embedded()
    engine.start()
    engine.verify()
    assert "passed" in json.loads(record.read_text())
    before = record.stat()
    engine.verify()
    assert record.stat() == before


def plant_illegal_instruction(library: Path, function: str) -> None:
    """Overwrite the start of *function* in *library* with an illegal instruction.

    ELF64, little-endian: the section headers lead to .dynsym, whose entries lead to the function's bytes.
    """
    content = bytearray(library.read_bytes())
    start, size, count = (*struct.unpack_from("<Q", content, 0x28), *struct.unpack_from("<HH", content, 0x3A))
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, start + n * size) for n in range(count)]
    symbols = next(section for section in sections if section[1] == 11)  # SHT_DYNSYM
    strings = sections[symbols[6]][4]
    for offset in range(symbols[4], symbols[4] + symbols[5], 24):
        name, _, _, _, address, _ = struct.unpack_from("<IBBHQQ", content, offset)
        if content[strings + name :].startswith(function.encode() + b"\0"):
            section = next(one for one in sections if one[3] <= address < one[3] + one[5] and one[1] == 1)
            offset_in_file = address - section[3] + section[4]
            content[offset_in_file : offset_in_file + 8] = (
                b"\x0f\x0b\x0f\x0b\x0f\x0b\x0f\x0b" if os.uname().machine == "x86_64" else bytes(8)
            )
            library.write_bytes(content)
            return
    pytest.fail(f"{library} has no function {function}")
