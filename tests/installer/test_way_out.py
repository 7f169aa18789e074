"""A home can always be uninstalled and purged, whatever its files' modes and owners are; what remains is named."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.namespaces import in_namespaces
from tests.support.site import MakeSite, Site

from mosaic_gateway.engines.postgres import outside_directories

OWNERLESS = 0o000
DIRECTORIES = ("data/postgres-18/base", "secrets", "backups", "runtime/postgresql-18.6", "bin", "logs", "run", "")


def _purge(site: Site) -> str:
    return f"--purge={site.receipt()['instance_id']}"


def _advised(hint: str) -> str:
    """Return the command for root that *hint* gives."""
    return hint.partition("As root: ")[2].partition(". Then")[0]


@pytest.mark.parametrize("mode", [OWNERLESS, pytest.param(0o500, marks=pytest.mark.slow)])
def test_directories_closed_to_their_owner_do_not_stop_a_purge(site: Site, mode: int) -> None:
    """The mode of an own directory is no obstacle: the purge sets it."""
    site.installed("--no-start")
    purge = _purge(site)
    assert site.json("backup", "create").code == 0
    for name in DIRECTORIES:
        if (site.path / name).is_dir():  # root's programs are not in the home
            # An unreadable home has no receipt, and so no instance to confirm.
            (site.path / name).chmod(mode if name else 0o500)
    assert site.json("uninstall", purge).code == 0
    assert not list(site.path.parent.iterdir())


@pytest.mark.parametrize("retained", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_mount_point_below_is_passed_over_and_named(site: Site, *, retained: bool) -> None:
    """All other files are deleted. The next purge completes it, and until then a new installation is possible."""
    site.installed()
    purge = _purge(site)
    place = site.home.runtime / "postgresql-18.6" if retained else site.home.data / "postgres-18"
    (place / "mounted").mkdir()
    os.chown(place / "mounted", site.uid, -1)
    mount = f"mount -t tmpfs none {place}/mounted && touch {place}/mounted/file"
    mounted = replace(site, prefix=in_namespaces("--mount", script=mount))
    done = mounted.json("uninstall", *([] if retained else [purge]))
    assert (done.code, done.error["code"]) == (1, "REMOVAL_INCOMPLETE"), done.out
    (remaining,) = map(Path, done.error["details"]["paths"])
    assert remaining.name == "mounted"
    assert f"{remaining} (a mount point, owned by " in done.error["message"]
    assert _advised(done.error["hint"]) == f"umount {remaining}"
    if not retained:
        left = {path for path in site.path.rglob("*") if path.is_file()}
        assert left == {site.home.receipt, site.home.lock}
        assert "Undoing" not in done.err
    assert site.json("uninstall", purge).code == 0
    assert not list(site.path.parent.iterdir())


def test_a_purge_that_left_a_file_is_no_obstacle(site: Site) -> None:
    """Doctor reports the purge, and no cluster as lost; an install goes on, and its purge deletes the rest, too."""
    site.installed()
    purge = _purge(site)
    mounted = site.home.data / "postgres-18" / "mounted"
    mounted.mkdir()
    os.chown(mounted, site.uid, -1)
    prefix = in_namespaces("--mount", script=f"mount -t tmpfs none {mounted}")
    assert replace(site, prefix=prefix).json("uninstall", purge).error["code"] == "REMOVAL_INCOMPLETE"

    found = {finding["check"]: finding for finding in site.json("doctor").envelope["result"]["findings"]}
    faults = {check: finding["code"] for check, finding in found.items() if finding["level"] == "fault"}
    assert faults == {"receipt": "PURGE_INTERRUPTED"}
    assert f"uninstall --home {site.path} {purge}" in found["receipt"]["hint"]
    assert found["leftovers"]["code"] == "LEFTOVERS"

    assert site.installed()["instance_id"] not in purge
    assert site.request("GET", "/readyz")[0] == 200
    assert not list(site.home.data.glob(".*.erased"))
    assert site.json("uninstall", _purge(site)).code == 0
    assert not list(site.path.parent.iterdir())


def test_a_failed_install_after_such_a_purge_leaves_the_purge(site: Site) -> None:
    """The receipt of the purged instance is put back, so that its purge can still be completed."""
    site.installed("--no-start")
    purge = _purge(site)
    mounted = site.home.secrets / "auth-secret"
    prefix = in_namespaces("--mount", script=f"mount --bind {mounted} {mounted}")
    done = replace(site, prefix=prefix).json("uninstall", purge)
    assert done.error["code"] == "REMOVAL_INCOMPLETE"
    assert done.error["details"]["paths"] == [str(mounted)]
    refused = site.install()
    assert (refused.code, refused.error["code"]) == (7, "PURGE_INTERRUPTED")
    assert site.json("uninstall", purge).code == 0
    assert not list(site.path.parent.iterdir())


@pytest.mark.root
@pytest.mark.parametrize("name", ["file", "directory", "logs", "backups"])
def test_files_of_another_user_are_named_with_their_owner(site: Site, name: str) -> None:
    """The hint is the command with which root deletes them; then the purge completes."""
    site.installed("--no-start")
    purge = _purge(site)
    assert site.json("backup", "create").code == 0
    places = {"file": site.home.data / "postgres-18" / "theirs" / "file", "directory": site.home.data / "postgres-18"}
    place = places.get(name, site.path / name)
    if name == "file":
        place.parent.mkdir()
        place.touch()
    else:
        os.chown(place, 0, 0)
    for _ in range(2):
        done = site.json("uninstall", purge)
        assert (done.code, done.error["code"]) == (1, "REMOVAL_INCOMPLETE"), done.out
        assert "(owned by root)" in done.error["message"]
    subprocess.run(["sh", "-c", _advised(done.error["hint"])], check=True)
    assert site.json("uninstall", purge).code == 0
    assert not site.path.exists()


@pytest.mark.root
@pytest.mark.parametrize("name", ["data", "run", "receipt.json"])
def test_what_says_what_runs_must_be_the_owners(site: Site, name: str) -> None:
    """A removal that cannot find out whether the database runs is refused, with the command that repairs it."""
    site.installed("--no-start")
    purge = _purge(site)
    os.chown(site.path / name, 0, 0)
    before = sorted(path.name for path in site.path.iterdir())
    for words in (("uninstall", purge), ("install",), ("start",), ("backup", "create")):
        done = site.json(*words)
        assert done.error["code"] in {"HOME_LAYOUT", "HOME_OWNER"}, done.out
        assert f"{site.path / name} is owned by root" in done.error["message"]
        assert "is gone" not in done.out
    assert sorted(path.name for path in site.path.iterdir()) == before
    subprocess.run(["sh", "-c", _advised(done.error["hint"])], check=True)
    assert site.json("uninstall", purge).code == 0


def _without_interpreter(site: Site) -> str:
    """Let the program of *site* name an interpreter that does not exist; return its path."""
    copy = site.home.runtime / "current"
    manifest = json.loads((copy / "manifest.json").read_text())
    gone = "/nonexistent/bin/python3.11"
    for file in (copy / "manifest.json", copy / "bin" / "mosaic-gateway"):
        file.write_text(file.read_text().replace(manifest["python"], gone))
    return gone


def test_the_interpreter_vanishes(site: Site) -> None:
    """The home's command, status and doctor name it, a restart stops nothing, and an install repairs it."""
    site.installed()
    gone = _without_interpreter(site)
    command = (site.home.programs or site.path) / "bin" / "mosaic-gateway"
    for words in ((command, "status"), (command, "start", "--json")):
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 3
        assert f"[PROGRAM_MISSING]: the interpreter {gone} does not exist" in done.stderr
        assert f"mosaic-gateway install --home {site.path}" in done.stderr
    status = site.json("status").result
    assert status["ready"] is True
    assert (status["program_error"]["code"], gone in status["program_error"]["message"]) == ("PROGRAM_MISSING", True)
    findings = {one["check"]: one["code"] for one in site.json("doctor").envelope["result"]["findings"] if one["code"]}
    assert findings["program"] == "PROGRAM_MISSING"
    assert site.json("restart").error["code"] == "PROGRAM_MISSING"
    assert site.request("GET", "/readyz")[0] == 200
    site.json("stop")
    assert site.json("status").error["code"] == "PROGRAM_MISSING"
    assert site.install().code == 0
    assert site.json("status").result["program_error"] is None
    assert subprocess.run([command, "status"], capture_output=True, timeout=60, check=False).returncode == 0


@pytest.mark.slow
def test_the_directory_of_the_socket_vanishes(make_site: MakeSite) -> None:
    """It is not in XDG_RUNTIME_DIR, which ends with the session; when it is deleted, engine and gateway recover."""
    site = make_site("x" * 100)
    site.environ["XDG_RUNTIME_DIR"] = str(site.path.parent)
    site.installed()
    (sockets,) = outside_directories(site.home, site.path.parent)
    assert sockets.parent == Path("/tmp")  # noqa: S108 - where PostgreSQL has its socket by default
    for _ in range(2):
        for file in sockets.iterdir():
            file.unlink()
        sockets.rmdir()
        deadline = time.monotonic() + 60
        while not sockets.exists() or site.request("GET", "/readyz")[0] != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert site.request("GET", "/api/bootstrap/status")[0] == 200
    assert site.json("doctor").code == 0
