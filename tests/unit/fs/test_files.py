"""Small files: bounded reading, atomic replacement, modes, and refusal of anything but regular files."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.planted import NOT_REGULAR, PLANTED, within

from mosaic_gateway.fs.files import (
    SMALL,
    NotARegularFileError,
    TooLargeError,
    make_directory,
    open_descriptor,
    open_regular,
    parse_json,
    parse_toml,
    read_json,
    read_regular,
    remove_file,
    write_file,
)


def mode(path: Path) -> int:
    """Return the permission bits of *path*."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_modes_are_independent_of_the_umask(tmp_path: Path, umask: int) -> None:
    """Files get mode 0600 and directories, including parents, 0700 under any umask."""
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
    """An existing file is replaced by one with the given mode; no temporary file is left."""
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)
    write_file(path, b"new", mode=0o640)
    assert (path.read_text(), mode(path)) == ("new", 0o640)
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    """A symbolic link is replaced, and its target is unchanged."""
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
        "import resource, signal, sys; from pathlib import Path; from mosaic_gateway.fs.files import write_file\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try: write_file(Path(sys.argv[1]), 'x' * 10000)\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, path], check=False, timeout=30)
    assert done.returncode == errno.EFBIG
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_rename_leaves_nothing(tmp_path: Path) -> None:
    """If rename fails, the temporary file is removed and the error is raised."""
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "file", "x")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_killed_while_writing(tmp_path: Path) -> None:
    """A process that is killed before the rename leaves the old file unchanged."""
    path = tmp_path / "file"
    path.write_text("old")
    code = (
        "import os, sys; from pathlib import Path; from mosaic_gateway.fs.files import write_file\n"
        "os.fsync = lambda descriptor: os.kill(os.getpid(), 9)\n"
        "write_file(Path(sys.argv[1]), 'new')"
    )
    assert subprocess.run([sys.executable, "-P", "-c", code, path], check=False, timeout=30).returncode == -9
    assert path.read_text() == "old"


def test_directories_that_exist_keep_their_mode(tmp_path: Path) -> None:
    """Creating a directory that exists changes nothing."""
    (tmp_path / "a").mkdir(mode=0o755)
    (tmp_path / "a").chmod(0o755)
    make_directory(tmp_path / "a")
    assert mode(tmp_path / "a") == 0o755


@pytest.mark.parametrize("place", ["file", "file/below", "dangling"])
def test_directory_that_cannot_be_created(tmp_path: Path, place: str) -> None:
    """A directory cannot replace a file or a dangling link, or be created below a file."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError):
        make_directory(tmp_path / place)


def test_remove(tmp_path: Path) -> None:
    """Removing a file twice is not an error."""
    (tmp_path / "a").touch()
    remove_file(tmp_path / "a")
    remove_file(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_only_regular_files_are_opened(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, FIFO, device, socket or directory is refused without blocking."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    NOT_REGULAR[kind](path)
    with pytest.raises(NotARegularFileError, match="file"):
        within(lambda: open_regular(path))
    with pytest.raises(NotARegularFileError, match="file"):
        within(lambda: read_regular(path))
    for flags in (os.O_WRONLY | os.O_APPEND | os.O_CREAT, os.O_RDWR | os.O_CREAT):
        with pytest.raises(NotARegularFileError, match="file"):
            within(lambda flags=flags: open_descriptor(path, flags))  # type: ignore[misc]


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/dev/tty"])
def test_devices_are_not_read(path: str) -> None:
    """A device is refused under its own name, too: /dev/zero would never end."""
    with pytest.raises(NotARegularFileError):
        within(lambda: read_regular(path))


def test_a_fifo_with_a_reader_is_not_written_to(tmp_path: Path) -> None:
    """A FIFO that another process reads is refused: opening it for writing would succeed."""
    path = tmp_path / "file"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(NotARegularFileError):
            open_descriptor(path, os.O_WRONLY | os.O_CREAT)
    finally:
        os.close(reader)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    """A file that is refused after opening is closed again."""
    os.mkfifo(tmp_path / "file")
    before = sorted(Path("/dev/fd").iterdir())
    for _ in range(3):
        with pytest.raises(NotARegularFileError):
            read_regular(tmp_path / "file")
    assert sorted(Path("/dev/fd").iterdir()) == before


def test_created_file_is_private_and_not_inherited(tmp_path: Path) -> None:
    """A file created by opening has mode 0600, and children do not inherit its descriptor."""
    descriptor = open_descriptor(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    try:
        assert mode(tmp_path / "file") == 0o600
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_reading_is_bounded(tmp_path: Path) -> None:
    """A file of exactly the limit is read, a larger one is refused; a sparse one is refused without reading it."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    assert read_regular(path, 10) == b"x" * 10
    with pytest.raises(TooLargeError, match="larger than 9 bytes"):
        read_regular(path, 9)
    path.write_bytes(b"")
    assert read_regular(path, 0) == b""
    os.truncate(path, 1 << 40)
    with pytest.raises(TooLargeError):
        within(lambda: read_regular(path))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_file_with_reported_size_zero(tmp_path: Path) -> None:
    """A file in /proc, whose reported size is 0, is read to its end, within the limit."""
    command = Path("/proc/self/cmdline").read_bytes()
    assert read_regular("/proc/self/cmdline") == command
    with pytest.raises(TooLargeError):
        read_regular("/proc/self/cmdline", len(command) - 1)


@pytest.mark.parametrize("path", ["missing", "file/below"])
def test_missing_files(tmp_path: Path, path: str) -> None:
    """A missing file has errors of its own, different from those for other file types."""
    (tmp_path / "file").touch()
    with pytest.raises((FileNotFoundError, NotADirectoryError)):
        read_regular(tmp_path / path)


@pytest.mark.parametrize("kind", sorted(set(PLANTED) - {"no object"}))
def test_json_with_unusable_content(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each unusable file is an OSError or a ValueError, without blocking."""
    monkeypatch.chdir(tmp_path)
    PLANTED[kind](tmp_path / "file")
    with pytest.raises((OSError, ValueError)):
        within(lambda: read_json(tmp_path / "file", SMALL))


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]', "[" * 100_000, "Infinity", "1" * 65])
def test_json_that_is_refused(text: str) -> None:
    """Duplicate keys, too deep nesting, Infinity and too long numbers are refused."""
    with pytest.raises(ValueError, match=r"twice|deep|JSON value|too long"):
        parse_json(text)


def test_valid_json() -> None:
    """Other JSON is parsed as usual."""
    assert parse_json(b'{"a": [1, 2.5, null, true], "b": {"a": "\\u00e4"}}') == {
        "a": [1, 2.5, None, True],
        "b": {"a": "\u00e4"},
    }


@pytest.mark.parametrize("content", [b"a = " + b"[" * 100_000, b"\xff", b"a = 1\na = 2\n"])
def test_toml_that_is_refused(content: bytes) -> None:
    """Too deep nesting, invalid UTF-8 and duplicate keys are a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011 - the messages are the parser's
        parse_toml(content)
