"""Copy and comparison of directory trees, on the file systems that are available."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mosaic_gateway_installer.backup.tree_comparison import Difference, DifferenceKind, compare_trees, hash_files
from mosaic_gateway_installer.backup.tree_copy import copy_tree

HOLE = 8 << 20  # bytes


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with all kinds of files that a home may contain."""
    top = tmp_path / "source"
    (top / "base" / "1").mkdir(parents=True)
    (top / "empty").mkdir(mode=0o750)
    (top / "PG_VERSION").write_text("18\n")
    (top / "PG_VERSION").chmod(0o640)
    (top / "base" / "1" / "2619").write_bytes(os.urandom(300_000))
    (top / "base" / "1" / "zero").touch()
    with (top / "base" / "sparse").open("wb") as stream:
        stream.seek(HOLE)
        stream.write(b"in the middle")
        stream.truncate(3 * HOLE)
    (top / "link").symlink_to("base/1")
    (top / "nowhere").symlink_to("/nonexistent/x")
    for path in (top / "PG_VERSION", top / "base"):
        os.utime(path, ns=(10**18, 10**18 + 123_456_789))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(top / "socket"))
    return top


def _blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_copy_is_equal_to_its_source(tree: Path) -> None:
    """Names, bytes, modes, times, links and holes are the same; no temporary file remains beside the copy."""
    progress: list[int] = []
    copy = tree.with_name("copy")
    report = copy_tree(tree, copy, progress=progress.append)
    assert (report.files, report.size) == (4, 3 + 300_000 + 3 * HOLE)
    assert progress == sorted(progress)
    assert progress[-1] == report.size
    assert compare_trees(tree, copy).equal
    assert {path.name for path in tree.parent.iterdir()} == {"source", "copy"}
    assert (copy / "link").readlink() == Path("base/1")
    assert stat.S_IMODE((copy / "empty").stat().st_mode) == 0o750
    for name in ("PG_VERSION", "base"):
        assert (copy / name).stat().st_mtime_ns == 10**18 + 123_456_789
    assert not (copy / "socket").exists()
    assert _blocks(copy / "base" / "sparse") < HOLE


def test_existing_target(tree: Path) -> None:
    """A target that exists, also as a dangling link, is refused and not changed."""
    for target in (tree / "empty", tree / "nowhere"):
        with pytest.raises(FileExistsError):
            copy_tree(tree / "base", target)
    assert (tree / "nowhere").is_symlink()


def test_skipped_paths(tree: Path) -> None:
    """A skipped directory is neither copied nor compared, nor is its content."""
    copy = tree.with_name("copy")
    copy_tree(tree, copy, skip=lambda path: path == "base/1")
    assert not (copy / "base" / "1").exists()
    assert (copy / "base" / "sparse").exists()
    assert compare_trees(tree, copy, skip=lambda path: path == "base/1").equal
    assert not compare_trees(tree, copy).equal


def test_single_file(tree: Path) -> None:
    """A single file can be copied and compared."""
    copy = tree.with_name("config.toml")
    copy_tree(tree / "PG_VERSION", copy)
    assert compare_trees(tree / "PG_VERSION", copy).equal
    copy.write_text("17\n")
    assert compare_trees(tree / "PG_VERSION", copy).differences == (Difference(".", DifferenceKind.CONTENT),)


def test_differences(tree: Path) -> None:
    """Each change of the copy is reported once, with its path and kind."""
    copy = tree.with_name("copy")
    copy_tree(tree, copy)
    with (copy / "base" / "sparse").open("r+b") as stream:
        stream.seek(2 * HOLE)
        stream.write(b"\x01")
    (copy / "base" / "1" / "2619").write_bytes(b"short")
    (copy / "base" / "1" / "zero").unlink()
    (copy / "base" / "1" / "more").touch()
    (copy / "PG_VERSION").chmod(0o600)
    (copy / "link").unlink()
    (copy / "link").symlink_to("base")
    (copy / "empty").rmdir()
    (copy / "empty").touch()
    differences = {(difference.path, difference.kind.value) for difference in compare_trees(tree, copy).differences}
    assert differences == {
        ("base/sparse", "content"), ("base/1/2619", "size"), ("base/1/zero", "missing"), ("base/1/more", "extra"),
        ("PG_VERSION", "mode"), ("link", "link"), ("empty", "kind"),
    }  # fmt: skip


def test_hashes(tree: Path) -> None:
    """`sha256sum` prints the same hashes, and `compare_trees` returns them too."""
    shutil.rmtree(tree.with_name("copy"), ignore_errors=True)
    copy_tree(tree, tree.with_name("copy"))
    entries = hash_files(tree)
    assert entries == compare_trees(tree, tree.with_name("copy")).files
    for entry in entries:
        output = subprocess.run(["sha256sum", tree / entry.path], check=True, capture_output=True, text=True).stdout
        assert output.split()[0] == entry.sha256
        assert entry.size == (tree / entry.path).stat().st_size


def test_vanishing_files(tree: Path) -> None:
    """Files that disappear during the copy, as in a running database, are an error unless *vanishing* is set."""

    def drop(path: str) -> bool:
        if path == "base/1/zero":
            (tree / path).unlink(missing_ok=True)
        return False

    with pytest.raises(FileNotFoundError):
        copy_tree(tree, tree.with_name("copy"), skip=drop)
    assert {path.name for path in tree.parent.iterdir()} == {"source"}
    (tree / "base" / "1" / "zero").touch()
    assert copy_tree(tree, tree.with_name("copy"), skip=drop, vanishing=True).files == 3
    assert not (tree.with_name("copy") / "base" / "1" / "zero").exists()


def test_full_disk(tree: Path, small_disk: Callable[[int], Path]) -> None:
    """The copy fails with ENOSPC, and the incomplete copy is removed."""
    disk = small_disk(8)
    (tree / "large").write_bytes(os.urandom(12 << 20))
    with pytest.raises(OSError, match="space") as error:
        copy_tree(tree, disk / "copy")
    assert error.value.errno == errno.ENOSPC
    assert not list(disk.iterdir())


@pytest.mark.root
@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_shared_blocks(tree: Path, tmp_path: Path, kind: str) -> None:
    """On XFS and Btrfs every file of a copy shares its blocks with the source, and is equal to it."""
    if shutil.which(f"mkfs.{kind}") is None:
        pytest.skip(f"needs mkfs.{kind}")
    image, mounted = tmp_path / "image", tmp_path / "mounted"
    image.touch()
    os.truncate(image, 400 << 20)
    mounted.mkdir()
    subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, mounted], check=False, capture_output=True).returncode:
        pytest.skip(f"{kind} cannot be mounted here")
    try:
        copy_tree(tree, mounted / "first")
        report = copy_tree(mounted / "first", mounted / "second")
        assert report.shared == report.files
        assert compare_trees(tree, mounted / "second").equal
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)
