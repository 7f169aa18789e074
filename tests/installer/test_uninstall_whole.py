"""After a purge the machine is as before the install: files, processes, ports, users; foreign files stay."""

from __future__ import annotations

import os
import pwd
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.engine_marks import on_both_engines
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

from mosaic_gateway.engines.postgres.configuration import outside_directories
from mosaic_gateway.installation.layout import Home

LIMIT = 10.0  # seconds for processes to exit
pytestmark = pytest.mark.slow

#: Foreign files in all directories of a home.
FOREIGN = (
    "notes.txt", "data/notes.txt", "secrets/notes.txt", "runtime/notes.txt", "run/notes.txt", "logs/notes.txt",
    "backups/notes.txt", "backups/mine/notes.txt", "data/postgres-18.old/notes.txt", ".removed", "data/.mine.removed",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The state of the machine that an installation could change."""

    files: dict[str, tuple[int, int, int]]
    processes: frozenset[tuple[int, float]]
    listening: frozenset[tuple[str, int]]
    users: frozenset[str]
    sockets: frozenset[str]


def _inspect(directory: Path, home: Path, port: int) -> Machine:
    """Return the state of *directory*, its processes, *port*, the users, and *home*'s sockets outside of it."""
    return Machine(
        files={
            str(path.relative_to(directory)): (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_size)
            for path in directory.rglob("*")
            if not path.is_dir() or path.is_symlink()
        }
        | {
            f"{path.relative_to(directory)}/": (path.lstat().st_mode, 0, 0)
            for path in directory.rglob("*")
            if path.is_dir()
        },
        processes=frozenset(
            (process.pid, process.info["create_time"])
            for process in psutil.process_iter(["cmdline", "create_time"])
            if process.pid != os.getpid() and any(str(directory) in word for word in process.info["cmdline"] or ())
        ),
        listening=frozenset(
            (connection.laddr.ip, connection.laddr.port)
            for connection in psutil.net_connections("tcp")
            if connection.laddr and connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
        ),
        users=frozenset(entry.pw_name for entry in pwd.getpwall()),
        sockets=frozenset(map(str, outside_directories(Home(home), Path(tempfile.gettempdir()))))
        if home.is_dir()
        else frozenset(),
    )


def _inspect_after_exit(directory: Path, home: Path, port: int) -> Machine:
    deadline = time.monotonic() + LIMIT
    while (state := _inspect(directory, home, port)).processes and time.monotonic() < deadline:
        time.sleep(0.05)
    return state


@pytest.fixture
def deep(make_site: MakeSite) -> Site:
    """Return a site whose home is below two directories that do not exist."""
    return make_site("above/further/home")


def test_after_a_purge_the_machine_is_as_before(deep: Site) -> None:
    """Install, back up, uninstall, install again, purge: files, processes, ports and users are unchanged."""
    site, top = deep, deep.path.parents[2]
    (top / "beside").write_text("mine")
    before = _inspect(top, site.path, site.port)
    site.installed()
    assert site.json("backup", "create", "--verify").code == 0
    assert site.json("uninstall").code == 0
    retained = _inspect_after_exit(top, site.path, site.port)
    assert (retained.processes, retained.listening, retained.users, retained.sockets) == (
        before.processes, before.listening, before.users, before.sockets,
    )  # fmt: skip
    tops = {path.name for path in site.path.iterdir()}
    assert tops == {"data", "secrets", "config.toml", "backups", "receipt.json", ".lock"}
    site.installed()
    assert site.json("uninstall", f"--purge={site.receipt()['instance_id']}").code == 0
    assert _inspect_after_exit(top, site.path, site.port) == before


def test_foreign_files_in_all_directories_of_the_home_stay(deep: Site) -> None:
    """Foreign files and directories in the home stay; everything else is removed."""
    site = deep
    site.installed()
    assert site.json("backup", "create").code == 0
    for name in FOREIGN:
        path = site.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        for created in (path.parent, path):
            os.chown(created, site.uid, -1)
    assert site.json("uninstall").code == 0
    assert all((site.path / name).read_text() == "mine" for name in FOREIGN)
    site.installed()
    done = site.json("uninstall", f"--purge={site.receipt()['instance_id']}")
    assert done.code == 0
    left = {str(path.relative_to(site.path)) for path in site.path.rglob("*") if path.is_file() or path.is_symlink()}
    assert left == set(FOREIGN)
    done = site.run("uninstall", "--purge=0123456789abcdef")
    assert done.code == 3  # not installed


KILLS: dict[str, tuple[str, int]] = {
    "journal": ("journal line", 1),
    "stopped": ("journal line", 2),
    "receipt": ("receipt renamed", 1),
    "first set aside": ("part set aside", 1),
    "half set aside": ("part set aside", 4),
    "first to go": ("part renamed for deletion", 1),
    "half to go": ("part renamed for deletion", 4),
    "first deleted": ("part deleted", 1),
    "directories": ("log directory removed", 1),
}


def _moments(*always: str, more: tuple[str, ...] = ()) -> list[Any]:
    """Return the moments as parameters; those not in *always* only run with the marker lifecycle."""
    return [
        pytest.param(moment, marks=[] if moment in always else [pytest.mark.lifecycle]) for moment in (*KILLS, *more)
    ]


def _states(site: Site) -> dict[str, object]:
    return {
        "files": sorted(
            str(path.relative_to(site.path))
            for path in site.path.rglob("*")
            if "postgres-18/" not in str(path) and path.name != ".lock"
        ),
        "state": site.receipt()["state"] if site.home.receipt.exists() else None,
    }


@pytest.fixture(scope="module")
def undisturbed(make_site: MakeSite) -> dict[str, object]:
    """Return the state after an uninstall without interruption."""
    site = make_site()
    site.installed()
    site.json("uninstall")
    return _states(site)


@on_both_engines
@pytest.mark.parametrize("moment", _moments("half set aside"))
def test_an_uninstall_killed_anywhere_converges(site: Site, undisturbed: dict[str, object], moment: str) -> None:
    """A second uninstall gives the same result as one without interruption."""
    site.installed()
    point, count = KILLS[moment]
    trap = trap_at(point, count)
    done = site.run("uninstall", trap=trap)
    assert done.code == -signal.SIGKILL, (done.out, done.err)
    assert site.json("uninstall").code == 0
    assert _states(site) == undisturbed
    site.assert_nothing_runs()
    assert site.installed()["smoke_test"] is not None


@on_both_engines
@pytest.mark.parametrize("moment", _moments("half to go", "lock goes", more=("receipt goes", "lock goes", "home goes")))
def test_a_purge_killed_anywhere_converges(site: Site, moment: str) -> None:
    """A second purge removes everything."""
    site.installed()
    last = {
        "receipt goes": ("receipt removed", 1),
        "lock goes": ("lock removed", 1),
        "home goes": ("home removed", 1),
    }
    point, count = {**KILLS, **last}[moment]
    purge = f"--purge={site.receipt()['instance_id']}"
    trap = trap_at(point, count)
    done = site.run("uninstall", purge, trap=trap)
    assert done.code == -signal.SIGKILL, (done.out, done.err)
    assert site.json("uninstall", purge).code == 0
    assert not list(site.path.parent.iterdir())
    site.assert_nothing_runs()


@on_both_engines
@pytest.mark.parametrize(("point", "count"), [("part set aside", 3), ("receipt renamed", 1)])
@pytest.mark.parametrize("purge", [pytest.param(False, marks=pytest.mark.lifecycle), True])
def test_an_uninstall_interrupted_before_deletion_is_rolled_back(
    site: Site, *, purge: bool, point: str, count: int
) -> None:
    """On SIGINT the renames are undone, and the gateway runs again."""
    site.installed()
    words = [f"--purge={site.receipt()['instance_id']}"] if purge else []
    trap = trap_at(point, count, act="SIGINT")
    assert site.json("uninstall", *words, trap=trap).code == 130
    assert site.request("GET", "/readyz")[0] == 200
    assert site.install().steps == []


def test_yes_alone_never_purges(site: Site) -> None:
    """--yes does not replace the instance id, not even with --purge."""
    site.installed("--no-start")
    done = site.json("uninstall", "--purge", "--yes")
    assert (done.code, done.error["code"]) == (2, "CONFIRMATION_MISSING")
    assert site.json("uninstall", "--yes").result["purged"] is False
    assert site.home.data.exists()
