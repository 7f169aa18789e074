"""The sdist contains what MANIFEST.in lists, which is every file of the project."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

# setuptools is the reference for MANIFEST.in; in a process of its own because it reads the current directory.
EXPAND = """
import json
from setuptools.command.egg_info import FileList
files = FileList()
for line in open("MANIFEST.in"):
    if line.strip() and not line.startswith("#"):
        files.process_template_line(line.strip())
files.sort()
files.remove_duplicates()
print(json.dumps(files.files))
"""
UNTRACKED = (
    "src/mosaic_gateway/__pycache__/x.cpython-311.pyc",
    "src/mosaic_gateway/x.pyc",
    "tests/interop/node_modules/x/index.js",
    "tests/.hypothesis/x",
    "tests/.pytest_cache/x",
    ".venv/x",
    ".tox/x",
    "dist/x.whl",
    "notes.txt",
)


def _names(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert "PKG-INFO" in names
    return names - {"PKG-INFO"}


def _tree(tree: Path) -> set[str]:
    return {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}


def _manifest(tree: Path) -> set[str]:
    command = [sys.executable, "-W", "ignore", "-c", EXPAND]
    return set(json.loads(subprocess.run(command, cwd=tree, capture_output=True, check=True, timeout=60).stdout))


def test_manifest_equals_the_sdist(
    distributions: Path, clean_copy: Callable[[Path], Path], tmp_path: Path
) -> None:  # fmt: skip
    """Setuptools selects by MANIFEST.in the same files as hatchling by pyproject.toml."""
    [sdist] = distributions.glob("*.tar.gz")

    assert _manifest(clean_copy(tmp_path)) == _names(sdist)


def test_sdist_contains_the_whole_project(
    distributions: Path, clean_copy: Callable[[Path], Path], tmp_path: Path
) -> None:  # fmt: skip
    """The sdist contains every file of the project, and no other file."""
    [sdist] = distributions.glob("*.tar.gz")

    assert _names(sdist) == _tree(clean_copy(tmp_path))


def test_untracked_files_are_excluded(
    clean_copy: Callable[[Path], Path], hatch: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Caches, virtual environments and old builds in the tree are not in the sdist."""
    tree = clean_copy(tmp_path / "tree")
    expected = _tree(tree)
    for name in UNTRACKED:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()

    done = hatch(tree, "sdist", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    [sdist] = (tmp_path / "out").glob("*.tar.gz")
    assert _names(sdist) == expected


def test_sdist_builds_itself_again(
    distributions: Path,
    unpack: Callable[[Path, Path], Path],
    hatch: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    """An sdist built from an unpacked sdist is the same file."""
    [sdist] = distributions.glob("*.tar.gz")

    hatch(unpack(sdist, tmp_path), "sdist", tmp_path / "out")

    assert (tmp_path / "out" / sdist.name).read_bytes() == sdist.read_bytes()
