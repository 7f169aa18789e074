"""The machine before an install and after a purge: the same files, processes, ports, users; what is not ours stays."""

from __future__ import annotations

import os
import pwd
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from tests.installer.conftest import MakeSite, Site


LIMIT = 10.0  # seconds in which what was told to end has ended
pytestmark = pytest.mark.slow

#: A file of somebody's in every directory of a home where one could put it.
FOREIGN = (
    "notes.txt", "data/notes.txt", "secrets/notes.txt", "runtime/notes.txt", "run/notes.txt", "logs/notes.txt",
    "backups/notes.txt", "backups/mine/notes.txt", "data/postgres-18.old/notes.txt", ".removed", "data/.mine.removed",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What an installation could leave behind."""

    files: dict[str, tuple[int, int, int]]
    processes: frozenset[tuple[int, float]]
    listening: frozenset[tuple[str, int]]
    users: frozenset[str]
    sockets: frozenset[str]


def _inspect(place: Path, home: Path, port: int) -> Machine:
    """Take a picture of *place*, of what runs there, of *port*, of the users, and of *home*'s sockets elsewhere."""
    return Machine(
        files={
            str(path.relative_to(place)): (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_size)
            for path in place.rglob("*")
            if not path.is_dir() or path.is_symlink()
        }
        | {f"{path.relative_to(place)}/": (path.lstat().st_mode, 0, 0) for path in place.rglob("*") if path.is_dir()},
        processes=frozenset(
            (process.pid, process.info["create_time"])
            for process in psutil.process_iter(["cmdline", "create_time"])
            if process.pid != os.getpid() and any(str(place) in word for word in process.info["cmdline"] or ())
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


def _looked_when_ended(place: Path, home: Path, port: int) -> Machine:
    deadline = time.monotonic() + LIMIT
    while (found := _inspect(place, home, port)).processes and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@pytest.fixture
def deep(make_site: MakeSite) -> Site:
    """Return a site whose home lies two new directories deep."""
    return make_site("above/further/home")


def test_after_a_purge_the_machine_is_as_before(deep: Site) -> None:
    """Install, work, back up, uninstall, install again, purge: not a file, process, port or user is left or lost."""
    site, top = deep, deep.path.parents[2]
    (top / "beside").write_text("mine")
    before = _inspect(top, site.path, site.port)
    site.installed()
    assert site.json("backup", "create", "--verify").code == 0
    assert site.json("uninstall").code == 0
    retained = _looked_when_ended(top, site.path, site.port)
    assert (retained.processes, retained.listening, retained.users, retained.sockets) == (
        before.processes, before.listening, before.users, before.sockets,
    )  # fmt: skip
    tops = {path.name for path in site.path.iterdir()}
    assert tops == {"data", "secrets", "config.toml", "backups", "receipt.json", ".lock"}
    site.installed()
    assert site.json("uninstall", f"--purge={site.receipt()['instance_id']}").code == 0
    assert _looked_when_ended(top, site.path, site.port) == before


def test_what_is_not_ours_survives_in_every_corner_of_the_home(deep: Site) -> None:
    """Files and directories that somebody put there are left with all they hold; nothing else of the home is."""
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
    said = site.run("uninstall", "--purge=0123456789abcdef")
    assert said.code == 3  # there is no installation any more


KILLS: dict[str, tuple[str, str, int]] = {
    "journal": ("open", "journal.jsonl', None", 1),
    "stopped": ("open", "journal.jsonl', None", 2),
    "receipt": ("os.rename", "receipt.json", 1),
    "first set aside": ("os.rename", ".removed", 1),
    "half set aside": ("os.rename", ".removed", 4),
    "first to go": ("os.rename", ".erased", 1),
    "half to go": ("os.rename", ".erased", 4),
    "first deleted": ("shutil.rmtree", ".erased", 1),
    "directories": ("os.rmdir", "/logs'", 1),
}


def _moments(*always: str, more: tuple[str, ...] = ()) -> list[Any]:
    """Return the moments as parameters; those beyond *always* run with the life cycle only."""
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
    """Return what an uninstall that nobody disturbs leaves."""
    site = make_site()
    site.installed()
    site.json("uninstall")
    return _states(site)


@pytest.mark.parametrize("moment", _moments("half set aside"))
def test_an_uninstall_killed_anywhere_converges(site: Site, undisturbed: dict[str, object], moment: str) -> None:
    """The same verb again ends as if nothing had happened."""
    site.installed()
    event, text, count = KILLS[moment]
    trap = {"event": event, "text": text, "count": count, "act": "SIGKILL"}
    done = site.run("uninstall", trap=trap)
    assert done.code == -signal.SIGKILL, (done.out, done.err)
    assert site.json("uninstall").code == 0
    assert _states(site) == undisturbed
    site.assert_nothing_runs()
    assert site.installed()["smoke_test"] is not None


@pytest.mark.parametrize("moment", _moments("half to go", "lock goes", more=("receipt goes", "lock goes", "home goes")))
def test_a_purge_killed_anywhere_converges(site: Site, moment: str) -> None:
    """The same purge again leaves nothing."""
    site.installed()
    last = {
        "receipt goes": ("os.remove", "receipt.json", 1),
        "lock goes": ("os.remove", ".lock", 1),
        "home goes": ("os.rmdir", "/home'", 1),
    }
    event, text, count = {**KILLS, **last}[moment]
    purge = f"--purge={site.receipt()['instance_id']}"
    trap = {"event": event, "text": text, "count": count, "act": "SIGKILL"}
    done = site.run("uninstall", purge, trap=trap)
    assert done.code == -signal.SIGKILL, (done.out, done.err)
    assert site.json("uninstall", purge).code == 0
    assert not list(site.path.parent.iterdir())
    site.assert_nothing_runs()


@pytest.mark.parametrize(("event", "text", "count"), [("os.rename", ".removed", 3), ("os.rename", "receipt.json", 1)])
@pytest.mark.parametrize("purge", [pytest.param(False, marks=pytest.mark.lifecycle), True])
def test_interrupted_before_anything_is_deleted_the_gateway_serves_again(
    site: Site, *, purge: bool, event: str, text: str, count: int
) -> None:
    """Ctrl-C takes back what was set aside."""
    site.installed()
    words = [f"--purge={site.receipt()['instance_id']}"] if purge else []
    trap = {"event": event, "text": text, "count": count, "act": "SIGINT"}
    assert site.json("uninstall", *words, trap=trap).code == 130
    assert site.request("GET", "/readyz")[0] == 200
    assert site.install().steps == []


def test_yes_alone_never_purges(site: Site) -> None:
    """Not even with --purge: only the instance id does."""
    site.installed("--no-start")
    done = site.json("uninstall", "--purge", "--yes")
    assert (done.code, done.error["code"]) == (2, "CONFIRMATION_MISSING")
    assert site.json("uninstall", "--yes").result["purged"] is False
    assert site.home.data.exists()
