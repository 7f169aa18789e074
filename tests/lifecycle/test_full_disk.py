"""An upgrade on a file system that becomes full: the old version serves again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lifecycle.test_upgrade import assert_old_again, assert_serves

from mosaic_gateway.gateway import control

if TYPE_CHECKING:
    from tests.lifecycle.conftest import Old

NEW = "0.1.0"
MEGABYTE = 1024**2


@pytest.fixture
def small(seeded: Callable[[], Old]) -> Iterator[Old]:
    """A home of the old version on a file system of its own, which holds little more than the home."""
    site = seeded()
    control.stop(site.home)
    kept = site.path.with_name("aside")
    site.path.rename(kept)
    site.path.mkdir()
    size = sum(path.lstat().st_blocks * 512 for path in kept.rglob("*"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size + 260 * MEGABYTE},mode=0700", "tmpfs", site.path],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        site.path.rmdir()
        shutil.rmtree(kept)
        pytest.skip("no file system can be mounted here")
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", site.path], check=True)
        shutil.rmtree(kept)
        subprocess.run([site.path / "bin/mosaic-gateway", "start"], check=True, capture_output=True, timeout=60)
        yield site
    finally:
        site.close()
        subprocess.run(["umount", "-l", site.path], check=True)


@pytest.mark.lifecycle
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
@pytest.mark.parametrize("left", [10, 50, 70, 100, 140, 200])
def test_a_full_disk_is_named_and_nothing_is_lost(small: Old, version: Callable[[str], Path], left: int) -> None:
    """With too little room for program, copy or migration the upgrade says so; with room made, it gets through."""
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
