"""The embedded engine in odd surroundings: places, settings, variables, full disks, processors it was not built for."""

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
from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
from mosaic_gateway.engines.postgres.engine_lock import read_record, running_conninfo
from mosaic_gateway.engines.postgres.postmaster import processes_of
from mosaic_gateway.engines.postgres.runtime import find_runtime, install_runtime
from mosaic_gateway.engines.postgres.sockets import LONGEST, socket_directory, socket_path
from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

LIMIT = 20.0  # seconds


def session(engine: EmbeddedPostgres) -> psycopg.Connection:
    """Open a session of *engine*."""
    return connect(engine.conninfo(), application_name="bad day")


def postmaster_of(home: Home) -> int:
    """Return the pid of the postmaster that the home's record names."""
    record = read_record(home)
    assert record is not None
    assert record.postmaster is not None
    return record.postmaster.pid


def until(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Wait until *condition* holds, at most *limit* seconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {limit} s"
        time.sleep(0.005)


def test_started_from_a_thread_that_ends(make_embedded: Callable[..., EmbeddedPostgres]) -> None:
    """The kernel's death signal follows the forking thread: the server must not die with the caller's."""
    engine = make_embedded()
    thread = threading.Thread(target=engine.start)
    thread.start()
    thread.join(LIMIT)
    time.sleep(0.2)  # the time in which a signal would have ended it (20 ms)
    assert engine.alive()
    session(engine).close()


def test_ctrl_c_is_not_for_the_server(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home) -> None:
    """The server is in a process group of its own, so that a terminal's signal reaches only the gateway."""
    make_embedded().start()
    assert os.getpgid(postmaster_of(provisioned_home)) != os.getpgid(0)


def test_broken_settings(make_embedded: Callable[..., EmbeddedPostgres], cluster: Path) -> None:
    """A server that refuses to start is quoted, leaves nothing behind, and starts once the cause is gone."""
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
    """No setting in a file makes the embedded server listen on the network; other settings are the user's."""
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


def test_only_the_account_gets_in(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home) -> None:
    """The socket lies in a directory closed to others, and no other role is let in."""
    engine = make_embedded()
    engine.start()
    assert stat.S_IMODE(socket_path(provisioned_home.run).stat().st_mode) == 0o700
    assert stat.S_IMODE(provisioned_home.run.stat().st_mode) == 0o700
    parameters = {**conninfo_to_dict(engine.conninfo()), "user": "postgres"}
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba\.conf entry"):
        psycopg.connect(**parameters)  # type: ignore[arg-type] # a conninfo's parameters


def test_the_environment_is_not_for_us(
    make_embedded: Callable[..., EmbeddedPostgres], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables meant for other servers change neither the server nor our sessions."""
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
def test_homes_in_odd_places(
    make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home, scratch: Path,
    name: str,
) -> None:  # fmt: skip
    """A path too long for a socket, or with letters that mean something to libpq, works all the same."""
    home = odd_home(scratch / name, provisioned_home)
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


def odd_home(path: Path, provisioned: Home) -> Home:
    """Make a home at *path* that works on the data of *provisioned*."""
    path.mkdir(mode=0o700)
    (path / "data").symlink_to(provisioned.data)
    return Home(path)


@pytest.mark.parametrize("planted", ["link", "open to all"])
def test_socket_directory_planted_by_somebody_else(scratch: Path, planted: str) -> None:
    """A socket directory in a public place that is a link, or open to others, is not used."""
    home = Home(scratch / ("y" * 120))
    public, target = scratch / "public", scratch / "target"
    public.mkdir()
    target.mkdir(mode=0o700)
    place = socket_directory(home, public)
    assert place.parent == public
    place.rmdir()
    if planted == "link":
        place.symlink_to(target)
    else:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(EngineStartError, match="not a private directory"):
        socket_directory(home, public)


def test_no_cluster(make_embedded: Callable[..., EmbeddedPostgres], scratch: Path) -> None:
    """A home without a cluster says what to run, and nothing is made in it."""
    with pytest.raises(ClusterMissingError):
        make_embedded(Home(scratch)).start()
    assert list(scratch.iterdir()) == []


@pytest.mark.root
def test_root_cannot_run_it(tmp_path: Path) -> None:
    """Root is refused before anything is tried."""
    home = Home(tmp_path)
    install_runtime(home, postgres_bin=None)
    with pytest.raises(UnfitAccountError):
        engine_for(Config(home=home, engine=EngineName.POSTGRES)).start()


def test_disk_full_of_wal(
    make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home, small_disk: Callable[[int], Path]
) -> None:
    """A server that cannot even recover for want of space gets the ballast's, and loses nothing committed."""
    disk = small_disk(320)
    home = Home(disk)
    create_cluster(home, find_runtime(provisioned_home, None))
    engine = make_embedded(home)
    engine.start()
    committed = fill_disk(engine, home, disk)
    assert not engine.alive() or (home.data / ".ballast").exists()
    engine.stop()
    engine.start()
    assert "gave up the ballast file" in (engine.verify().recovered or "")
    with closing(session(engine)) as connection:
        row = connection.execute("SELECT count(*) FROM filler").fetchone()
    assert row is not None
    assert row[0] >= committed
    engine.stop()


def fill_disk(engine: EmbeddedPostgres, home: Home, disk: Path) -> int:
    """Write until WAL finds no room and the server dies of it; return how many rows were acknowledged."""
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
    until(lambda: not engine.alive(), "the server dies of the full disk")
    return committed


def test_cpu_that_pgvector_was_not_built_for(
    make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home, scratch: Path
) -> None:
    """An illegal instruction in pgvector is found at the first start, and named with the CPU and the ways out."""
    home = Home(scratch)
    runtime = install_runtime(home, postgres_bin=None)
    plant_illegal_instruction(runtime.bindir.parent / "lib" / "vector.so", "l2_distance")
    (scratch / "data").symlink_to(provisioned_home.data)
    engine = make_embedded(home, runtime)
    engine.start()
    with pytest.raises(CpuUnsupportedError, match="does not run on this CPU") as caught:
        engine.verify()
    assert caught.value.details["cpu"] in caught.value.message
    assert "--postgres-bin" in caught.value.hint
    assert not (home.run / "self-test.json").exists()
    assert engine.alive()


def test_self_test_runs_once(make_embedded: Callable[..., EmbeddedPostgres], provisioned_home: Home) -> None:
    """What was passed is on record, so that later starts skip it."""
    record = provisioned_home.run / "self-test.json"
    engine = make_embedded()
    engine.start()
    engine.verify()
    assert "passed" in json.loads(record.read_text())
    before = record.stat()
    engine.verify()
    assert record.stat() == before


def plant_illegal_instruction(library: Path, function: str) -> None:
    """Overwrite the start of *function* in *library* with one that no CPU executes.

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
            where = address - section[3] + section[4]
            content[where : where + 8] = (
                b"\x0f\x0b\x0f\x0b\x0f\x0b\x0f\x0b" if os.uname().machine == "x86_64" else bytes(8)
            )
            library.write_bytes(content)
            return
    pytest.fail(f"{library} has no function {function}")
