"""Builds of the same commit are byte-identical, independent of time and place."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

OTHER_TIME = 1_000_000_000  # 2001-09-09


def test_builds_are_byte_identical(
    distributions: Path, clean_copy: Callable[[Path], Path], build_both: Callable[..., str], tmp_path: Path
) -> None:
    """Directory, file times, file modes, umask, time zone, locale and hash seed do not affect the archives."""
    tree = clean_copy(tmp_path / "a directory elsewhere" / "tree")
    for path in tree.rglob("*"):
        path.chmod(0o700 if path.is_dir() or (os.access(path, os.X_OK) and path.stat().st_mode & 0o100) else 0o600)
        os.utime(path, (OTHER_TIME, OTHER_TIME))
    out = tmp_path / "out"
    environ = {"TZ": "Pacific/Chatham", "LC_ALL": "C", "PYTHONHASHSEED": "7"}

    failure = build_both(tree, out, tmp_path / "unpacked", environ=environ, umask=0o077)

    assert not failure
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in distributions.iterdir()
    }


def test_wheel_from_the_tree_equals_wheel_from_the_sdist(
    distributions: Path,
    clean_copy: Callable[[Path], Path],
    hatch: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    """A wheel built from the tree and one built from the sdist are the same file."""
    [wheel] = distributions.glob("*.whl")

    hatch(clean_copy(tmp_path / "tree"), "wheel", tmp_path / "out")

    assert (tmp_path / "out" / wheel.name).read_bytes() == wheel.read_bytes()
