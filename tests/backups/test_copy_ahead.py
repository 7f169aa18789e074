"""A copy that is created while its source changes, and brought up to date afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mosaic_gateway_installer.backup.copy_ahead import bring_up_to_date, copy_ahead
from mosaic_gateway_installer.backup.tree_comparison import compare_trees, hash_files

SIZE = 300_000  # bytes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory similar to that of a database."""
    top = tmp_path / "data"
    (top / "base" / "1").mkdir(parents=True)
    (top / "base" / "2").mkdir()
    for name in ("base/1/100", "base/1/101", "base/2/100", "base/2/200"):
        (top / name).write_bytes(os.urandom(SIZE))
    (top / "control").write_bytes(b"1" * 8192)
    (top / "link").symlink_to("base")
    return top


def _change_bytes(path: Path, position: int) -> None:
    """Change bytes of *path*, but neither its size nor its times."""
    status = path.stat()
    with path.open("r+b") as stream:
        stream.seek(position)
        stream.write(b"\0\1\2\3" * 8)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _relink(data: Path) -> None:
    (data / "link").unlink()
    (data / "link").symlink_to("base/1")


def _swap(data: Path) -> None:
    (data / "control").unlink()
    (data / "control").mkdir()
    (data / "control" / "inside").write_text("x")


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda _data: None,
    "bytes only": lambda data: _change_bytes(data / "base/1/100", SIZE - 40),
    "longer": lambda data: (data / "base/1/101").write_bytes(os.urandom(SIZE + 1)),
    "truncated": lambda data: os.truncate(data / "base/1/101", 0),
    "a new file": lambda data: (data / "base/1/102").write_bytes(b"new"),
    "a new directory": lambda data: shutil.copytree(data / "base/2", data / "base/3/deep"),
    "a file removed": lambda data: (data / "base/2/200").unlink(),
    "a directory removed": lambda data: shutil.rmtree(data / "base/2"),
    "a mode": lambda data: (data / "base/2").chmod(0o711),
    "the top's mode": lambda data: data.chmod(0o711),
    "a link": _relink,
    "a directory for a file": _swap,
}


@pytest.mark.parametrize("change", CHANGES)
def test_bring_up_to_date(data: Path, tmp_path: Path, change: str) -> None:
    """The copy is equal to the changed source, and existing hashes are those of its files."""
    ahead = copy_ahead(data, tmp_path / "ahead", skip=lambda _path: False)
    assert {entry.path for entry in ahead.files} == {entry.path for entry in hash_files(data)}
    CHANGES[change](data)
    comparison = bring_up_to_date(data, ahead.copy, ahead.files, skip=lambda _path: False)
    assert comparison.equal
    assert compare_trees(data, ahead.copy).equal
    actual = {entry.path: entry for entry in hash_files(data)}
    assert [(entry.path, entry.size) for entry in comparison.files] == [(e.path, e.size) for e in actual.values()]
    hashed = [entry for entry in comparison.files if entry.sha256]
    assert [entry for entry in hashed if actual[entry.path] != entry] == []
    assert (len(hashed) == len(actual)) is (change in {"nothing", "a file removed", "a directory removed", "a link"})


def test_skipped_paths(data: Path, tmp_path: Path) -> None:
    """A path skipped only during the first copy is copied later; one skipped later, also in a new directory, is not."""
    ahead = copy_ahead(data, tmp_path / "ahead", skip=lambda path: path == "base/2/200")
    assert not (ahead.copy / "base/2/200").exists()
    shutil.copytree(data / "base/2", data / "base/3")
    skipped = {"base/3/100"}
    comparison = bring_up_to_date(data, ahead.copy, ahead.files, skip=skipped.__contains__)
    assert comparison.equal
    copied = {entry.path for entry in hash_files(data)} - skipped
    assert {entry.path for entry in comparison.files} == copied == {entry.path for entry in hash_files(ahead.copy)}


def test_failed_copy_is_removed(data: Path, tmp_path: Path) -> None:
    """After an error the unfinished copy is removed."""

    def fail(path: str) -> bool:
        if path == "base/2/200":
            raise OSError(28, "No space left on device")
        return False

    with pytest.raises(OSError, match="No space"):
        copy_ahead(data, tmp_path / "ahead", skip=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
