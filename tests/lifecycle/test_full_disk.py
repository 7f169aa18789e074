"""Upgrades on a file system that becomes full: the old version serves again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lifecycle.old_home import Old, seeded_home
from tests.lifecycle.test_upgrade import assert_old_again, assert_serves
from tests.lifecycle.versions import NEW, OLD
from tests.support.ports import free_port

SIZE = 640  # MB
MEGABYTE = 1024**2


@pytest.fixture
def small(
    ordinary_user: None,
    small_disk: Callable[[int], Path],
    version: Callable[[str], Path],
) -> Iterator[Old]:
    """Yield a serving home of the old version on a small file system."""
    site = seeded_home(small_disk(SIZE), version(OLD), free_port())
    shutil.rmtree(site.path.with_name("saved"))
    subprocess.run([site.path / "bin/mosaic-gateway", "start"], check=True, capture_output=True, timeout=60)
    yield site
    site.close()


@pytest.mark.lifecycle
@pytest.mark.parametrize("left", [10, 50, 70, 100, 140, 200])
def test_full_disk(small: Old, version: Callable[[str], Path], left: int) -> None:
    """Without space for program, copy or migration the upgrade fails and is rolled back; with space it succeeds."""
    free = shutil.disk_usage(small.path).free
    filler = small.path / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, max(free - left * MEGABYTE, 1))
    done = small.run_version(version(NEW), "upgrade")
    if done.code != 0:
        assert done.error["code"] in {"DISK_FULL", "PREFLIGHT_FAILED"}, done.error
        filler.unlink()
        assert_old_again(small)
        done = small.run_version(version(NEW), "upgrade")
    assert done.code == 0, done.out
    filler.unlink(missing_ok=True)
    assert_serves(small, NEW)
