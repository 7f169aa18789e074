"""Paths where root can or cannot create a home, and removal of what a failed run created. Only root can run these."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.support.site import MakeSite, Site, finish

from mosaic_gateway.installation.machine_record import record_file

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.root]


@contextmanager
def _read_only(directory: Path) -> Iterator[None]:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", directory], check=False).returncode != 0:
        pytest.skip("root is not allowed to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", directory], check=True)


def _assert_no_record(site: Site) -> None:
    assert not record_file(site.path).exists()


@pytest.mark.parametrize("name", ["file/home", "x" * 300], ids=["below a file", "a name that is too long"])
def test_an_impossible_path(make_site: MakeSite, open_directory: Path, name: str) -> None:
    """The error is HOME_UNUSABLE, and nothing is created."""
    (open_directory / "file").touch()
    site = make_site(name, parent=open_directory)
    done = site.install("--no-start")
    assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")
    _assert_no_record(site)


def test_a_read_only_file_system(make_site: MakeSite, open_directory: Path) -> None:
    """Root's record, which is written before, is removed again."""
    site = make_site(parent=open_directory)
    with _read_only(open_directory):
        done = site.install("--no-start")
        assert (done.code, done.error["code"]) == (3, "HOME_UNUSABLE")
    _assert_no_record(site)


def test_two_concurrent_installs(make_site: MakeSite, open_directory: Path) -> None:
    """One of them installs, the other finds the home busy or installed."""
    site = make_site(parent=open_directory)
    both = [site.popen(*site.install_words("--no-start")) for _ in range(2)]
    results = sorted((finish(one) for one in both), key=lambda result: result.code)
    assert results[0].code == 0, results
    assert results[1].code == 0 or results[1].error["code"] == "HOME_BUSY", results
    assert site.record()["complete"] is True
    site.json("uninstall", f"--purge={site.receipt()['instance_id']}")
    _assert_no_record(site)


def test_an_empty_directory_of_root_becomes_the_home(make_site: MakeSite, open_directory: Path) -> None:
    """The account becomes its owner, even if it was closed to it; a failed install restores owner and mode."""
    site = make_site(parent=open_directory)
    site.path.mkdir()
    site.path.chmod(0o750)
    os.chown(site.path, 0, 4)
    failed = site.install("--engine", "server", "--database-url", "postgresql://127.0.0.1:1/none")
    assert failed.error["code"] == "SERVER_UNREACHABLE"
    status = site.path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777, list(site.path.iterdir())) == (0, 4, 0o750, [])
    _assert_no_record(site)
    dry = site.install("--dry-run")
    assert (dry.code, dry.error["code"]) == (3, "HOME_UNUSABLE")
    site.installed("--no-start")
    assert (site.path.stat().st_uid, site.path.stat().st_mode & 0o777) == (site.uid, 0o700)
    site.json("uninstall", f"--purge={site.receipt()['instance_id']}")
    _assert_no_record(site)
