"""Homes and machines on which an install is not possible: the reason is reported, and nothing is changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.engine_marks import on_both_engines
from tests.support.namespaces import in_namespaces
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

if TYPE_CHECKING:
    from collections.abc import Callable


ENOUGH = 260  # MB: more than the preflight check requires, so that the disk fills up during the install


def _assert_nothing_created(site: Site) -> None:
    assert not site.path.exists()
    assert not list(site.path.parent.iterdir())
    site.assert_nothing_runs()


@on_both_engines
def test_a_used_port_is_reported_with_its_process(site: Site) -> None:
    """The error names the pid of the listener."""
    with socket.create_server(("127.0.0.1", site.port)):
        done = site.install()
    assert done.code == 3
    assert done.error["code"] == "PORT_TAKEN"
    owner = f"(process {os.getpid()})" if site.account_name is None else "a process of another user"
    assert owner in done.error["message"]
    assert "--port" in done.error["hint"]
    _assert_nothing_created(site)


def test_an_address_of_another_machine_cannot_be_listened_on(site: Site) -> None:
    """An address that is not assigned to this machine is refused."""
    done = site.install("--host", "192.0.2.1")
    assert (done.code, done.error["code"]) == (3, "ADDRESS_UNUSABLE")
    _assert_nothing_created(site)


@on_both_engines
def test_a_home_that_is_a_file_is_refused(site: Site) -> None:
    """A file in the place of the home is refused and not changed."""
    site.path.write_text("mine")
    done = site.install()
    assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")
    assert site.path.read_text() == "mine"


def test_a_home_below_a_file_is_refused(make_site: MakeSite) -> None:
    """A path through a file cannot be created."""
    site = make_site("file/home")
    site.path.parent.write_text("mine")
    done = site.install()
    assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")


def test_a_name_that_is_too_long_is_refused(make_site: MakeSite) -> None:
    """A path component of 300 characters is reported as an unusable home, not as an internal error."""
    done = make_site("x" * 300).install()
    assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")


def test_a_home_accessible_to_others_is_refused_with_the_remedy(site: Site) -> None:
    """Mode 0755 on the home stops the install before anything is written."""
    site.path.mkdir()
    site.path.chmod(0o755)
    os.chown(site.path, site.uid, -1)
    done = site.install()
    assert (done.code, done.error["code"]) == (3, "HOME_MODE")
    assert f"chmod 700 {site.path}" in done.error["hint"]
    assert not list(site.path.iterdir())


def test_a_directory_with_foreign_files_is_left_alone(site: Site) -> None:
    """A directory that contains other files is neither used nor changed."""
    site.path.mkdir(mode=0o700)
    (site.path / "thesis.txt").write_text("years of work")
    done = site.install()
    assert (done.code, done.error["code"]) == (7, "HOME_FOREIGN")
    assert "thesis.txt" in done.error["message"]
    assert [path.name for path in site.path.iterdir()] == ["thesis.txt"]


def test_an_unreadable_receipt_is_never_replaced(site: Site) -> None:
    """A receipt that cannot be read stops the install, because it is unknown what the installation owns."""
    site.path.mkdir(mode=0o700)
    site.home.receipt.write_text("{")
    for path in (site.path, site.home.receipt):
        os.chown(path, site.uid, -1)
    done = site.install()
    assert (done.code, done.error["code"]) == (7, "RECORD_INVALID")
    assert site.home.receipt.read_text() == "{"


@on_both_engines
def test_a_directory_that_cannot_be_written_is_named(site: Site) -> None:
    """A parent directory without write permission is named before anything is created."""
    parent = site.path.parent
    if site.account_name is None:
        parent.chmod(0o500)
    else:  # root ignores modes, so use a read-only mount
        site.prefix = in_namespaces("--mount", script='mount -t tmpfs -o ro none "$0"', argument=str(parent))
    done = site.install()
    parent.chmod(0o700)
    assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")
    assert str(site.path.parent) in done.error["message"]


@on_both_engines
def test_too_small_a_disk_is_found_before_anything_is_created(
    make_site: MakeSite, small_disk: Callable[[int], Path]
) -> None:
    """64 MB are not enough, and the error states how much is needed."""
    site = make_site(parent=small_disk(64))
    done = site.install()
    assert (done.code, done.error["code"]) == (3, "DISK_FULL")
    assert done.error["details"]["free_bytes"] <= 64 * 1024**2 < done.error["details"]["needed_bytes"]
    _assert_nothing_created(site)


@on_both_engines
@pytest.mark.slow
@pytest.mark.parametrize("left_mb", [10, 60])
def test_a_disk_that_fills_up_during_the_install_is_left_unchanged(
    make_site: MakeSite, small_disk: Callable[[int], Path], left_mb: int
) -> None:
    """Another process fills the disk after the checks, while the programs or the cluster are written."""
    site = make_site(parent=small_disk(ENOUGH))
    trap = trap_at("journal line", act="SIGSTOP")
    installer = site.popen(*site.install_words(), trap=trap)
    _await_stop(installer.pid)
    hog = site.path.parent / "hog"
    with hog.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(hog).free - left_mb * 1024**2)
    installer.send_signal(18)
    out, err = installer.communicate(timeout=60)
    assert installer.returncode == 3, (out, err)
    assert '"code": "DISK_FULL"' in out
    assert [path.name for path in site.path.parent.iterdir()] == ["hog"], err
    site.assert_nothing_runs()


@on_both_engines
@pytest.mark.parametrize(
    ("point", "count"),
    [("receipt renamed", 1), ("settings renamed", 1), ("secret renamed", 1),
     ("journal line", 1), ("journal line", 6)],
)  # fmt: skip
def test_a_full_disk_for_a_small_file_undoes_all(site: Site, point: str, count: int) -> None:
    """ENOSPC on receipt, settings, secret or journal ends with exit code 3, and all is undone."""
    done = site.install("--no-start", trap=trap_at(point, count, act="ENOSPC"))
    assert (done.code, done.error["code"]) == (3, "DISK_FULL")
    _assert_nothing_created(site)


@on_both_engines
@pytest.mark.parametrize(
    "name",
    [
        "a home, with 'ünïcödé' 家",
        pytest.param("-dash", marks=pytest.mark.slow),
        pytest.param("n" * 120, marks=pytest.mark.slow, id="long"),
    ],
)
def test_an_unusual_path_works_from_install_to_purge(make_site: MakeSite, name: str) -> None:
    """Spaces, quotes, Unicode, and a path too long for a socket: gateway, second run, doctor, purge."""
    site = make_site(name)
    assert site.installed()["smoke_test"]["needsSetup"] is True
    assert _outside_sockets(site).exists() is (len(name) > 100 or "," in name)
    assert site.install().steps == []
    assert site.json("doctor").code == 0
    assert site.json("uninstall", f"--purge={site.receipt()['instance_id']}").code == 0
    _assert_nothing_created(site)
    assert not _outside_sockets(site).exists()


@pytest.mark.parametrize("name", ['a "quoted" one', "$HOME", "`id`", "back\\slash", "two\nlines"])
def test_a_path_that_initdb_would_give_to_a_shell_is_refused(make_site: MakeSite, name: str) -> None:
    """initdb puts the path in double quotes on a shell command line; paths with special characters are refused."""
    site = make_site(name)
    done = site.install()
    assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")
    _assert_nothing_created(site)


def _outside_sockets(site: Site) -> Path:
    digest = hashlib.sha256(os.fsencode(site.path)).hexdigest()
    return Path("/tmp", f"mosaic-{digest[:8]}")  # noqa: S108 - directory of sockets whose path would be too long


@on_both_engines
@pytest.mark.slow
def test_a_failed_install_with_a_long_path_leaves_no_socket_directory(make_site: MakeSite) -> None:
    """The socket directory outside of the home is removed when the install is undone."""
    site = make_site("n" * 120)
    done = site.install(trap=trap_at("gateway asked", act="ECONNREFUSED"))
    assert done.code == 5, done.out
    _assert_nothing_created(site)
    assert not _outside_sockets(site).exists()


def test_several_faults_are_reported_at_once(site: Site, scratch: Path) -> None:
    """If port and programs are both unusable, one run reports both, each with its code."""
    with socket.create_server(("127.0.0.1", site.port)):
        done = site.install("--postgres-bin", str(scratch))
    assert done.code == 3
    assert done.error["code"] == "PREFLIGHT_FAILED"
    assert {fault["code"] for fault in done.error["details"]["faults"]} == {"PORT_TAKEN", "RUNTIME_MISSING"}
    assert all(fault["hint"] for fault in done.error["details"]["faults"])
    _assert_nothing_created(site)


def test_programs_without_pgvector_are_found_before_anything_is_created(site: Site, postgres_bin: Path) -> None:
    """The programs in --postgres-bin are examined by the preflight checks."""
    share = site.path.parent.parent / f"{site.path.parent.name}-bin"
    (share / "bin").mkdir(parents=True)
    for name in ("postgres", "initdb"):
        (share / "bin" / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 16.1'\n")
        (share / "bin" / name).chmod(0o755)
    share.chmod(0o755)
    done = site.install("--postgres-bin", str(share / "bin"))
    assert (done.code, done.error["code"]) == (3, "VECTOR_MISSING")
    _assert_nothing_created(site)


def _await_stop(pid: int) -> None:
    """Wait until the process *pid* is stopped."""
    _, status = os.waitpid(pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), status
