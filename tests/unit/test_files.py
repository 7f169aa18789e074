"""Small files are replaced whole or not at all, and are private."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mosaic_gateway.files import make_directory, remove_file, write_file


def mode(path: Path) -> int:
    """Return the permission bits of *path*."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Files get 0600 and directories 0700, parents included, even under a strange umask."""
    before = os.umask(umask)
    try:
        make_directory(tmp_path / "a" / "b")
        write_file(tmp_path / "a" / "b" / "file", "ä")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b"), mode(tmp_path / "a" / "b" / "file")) == (
        0o700,
        0o700,
        0o600,
    )
    assert (tmp_path / "a" / "b" / "file").read_bytes() == "ä".encode()


def test_replacing(tmp_path: Path) -> None:
    """An existing file is replaced by a new one with the asked mode; nothing else is left."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_file(path, b"new", mode=0o640)
    assert (path.read_text(), mode(path)) == ("new", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    """A link in the file's place is replaced; what it led to keeps its content."""
    target = tmp_path / "target"
    target.write_text("keep")
    (tmp_path / "file").symlink_to(target)
    write_file(tmp_path / "file", "new")
    assert target.read_text() == "keep"
    assert not (tmp_path / "file").is_symlink()


def test_a_failing_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that fails in the middle leaves the old content and no temporary file."""
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import resource, signal, sys; from pathlib import Path; from mosaic_gateway.files import write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_file(Path(sys.argv[1]), 'x' * 10000)\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, path], check=False, timeout=30)
    assert done.returncode == errno.EFBIG
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_rename_leaves_nothing(tmp_path: Path) -> None:
    """Where the target cannot be replaced, the temporary file goes and the error comes out."""
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "file", "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_killed_while_writing(tmp_path: Path) -> None:
    """A process killed before the rename leaves the old file as it was."""
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from mosaic_gateway.files import write_file\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\n"
        "write_file(Path(sys.argv[1]), 'new')"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code, path], check=False, timeout=30).returncode == -9
    assert path.read_text() == "old"


def test_directories_that_exist_keep_their_mode(tmp_path: Path) -> None:
    """Making a directory that is there changes nothing."""
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a").chmod(0o755)
    make_directory(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o755


@pytest.mark.parametrize("place", ["file", "file/below", "dangling"])
def test_no_directory_can_be_here(tmp_path: Path, place: str) -> None:
    """A file, a path below a file and a dangling link are no places for a directory."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / place)


def test_remove(tmp_path: Path) -> None:
    """Removing is done once, and harmless the second time."""
    (tmp_path / "a").touch()
    remove_file(tmp_path / "a")
    remove_file(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
