"""A copy that is made while its source changes, and brought up to date afterwards."""

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
    """A directory as a database has them."""
    top = tmp_path / "data"
    (top / "base" / "1").mkdir(parents=True)
    (top / "base" / "2").mkdir()
    for name in ("base/1/100", "base/1/101", "base/2/100", "base/2/200"):
        (top / name).write_bytes(os.urandom(SIZE))
    (top / "control").write_bytes(b"1" * 8192)
    (top / "link").symlink_to("base")
    return top


def _within(path: Path, position: int) -> None:
    """Change bytes, and have nothing tell of it but the bytes."""
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
    "bytes, silently": lambda data: _within(data / "base/1/100", SIZE - 40),
    "longer": lambda data: (data / "base/1/101").write_bytes(os.urandom(SIZE + 1)),
    "cut off": lambda data: os.truncate(data / "base/1/101", 0),
    "a new file": lambda data: (data / "base/1/102").write_bytes(b"new"),
    "a new directory": lambda data: shutil.copytree(data / "base/2", data / "base/3/deep"),
    "a file gone": lambda data: (data / "base/2/200").unlink(),
    "a directory gone": lambda data: shutil.rmtree(data / "base/2"),
    "a mode": lambda data: (data / "base/2").chmod(0o711),
    "the top's mode": lambda data: data.chmod(0o711),
    "a link": _relink,
    "a directory for a file": _swap,
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_has_changed_is_in_the_copy(data: Path, tmp_path: Path, change: str) -> None:
    """The copy is the source again, byte by byte; the hashes that were taken are those of its files."""
    ahead = copy_ahead(data, tmp_path / "place", skip=lambda _path: False)
    assert {entry.path for entry in ahead.files} == {entry.path for entry in hash_files(data)}
    CHANGES[change](data)
    summary = bring_up_to_date(data, ahead.copy, ahead.files, skip=lambda _path: False)
    assert summary.equal
    assert compare_trees(data, ahead.copy).equal
    hashes = {entry.path: entry for entry in hash_files(data)}
    assert [(entry.path, entry.size) for entry in summary.files] == [(one.path, one.size) for one in hashes.values()]
    noted = [entry for entry in summary.files if entry.sha256]
    assert [entry for entry in noted if hashes[entry.path] != entry] == []
    assert (len(noted) == len(hashes)) is (change in {"nothing", "a file gone", "a directory gone", "a link"})


def test_what_is_left_out_stays_out(data: Path, tmp_path: Path) -> None:
    """Left out only ahead, it is copied afterwards; left out afterwards, in a new directory too, it is not there."""
    ahead = copy_ahead(data, tmp_path / "place", skip=lambda path: path == "base/2/200")
    assert not (ahead.copy / "base/2/200").exists()
    shutil.copytree(data / "base/2", data / "base/3")
    out = {"base/3/100"}
    summary = bring_up_to_date(data, ahead.copy, ahead.files, skip=out.__contains__)
    assert summary.equal
    retained = {entry.path for entry in hash_files(data)} - out
    assert {entry.path for entry in summary.files} == retained == {entry.path for entry in hash_files(ahead.copy)}


def test_a_failed_copy_leaves_nothing(data: Path, tmp_path: Path) -> None:
    """An error on the way removes what was begun."""

    def fail(path: str) -> bool:
        if path == "base/2/200":
            raise OSError(28, "No space left on device")
        return False

    with pytest.raises(OSError, match="No space"):
        copy_ahead(data, tmp_path / "place", skip=fail)
    assert {path.name for path in tmp_path.iterdir()} == {"data"}
