"""Log files: rotation, modes, a full disk, and reading the last lines."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mosaic_gateway.process.logfile import LogPump, RotatingFile, tail_of


def test_rotation(tmp_path: Path) -> None:
    """A line that would exceed the size starts a new file, and at most *keep* rotated files are retained."""
    path = tmp_path / "a.log"
    log = RotatingFile(path, size=10, keep=2)
    for number in range(5):
        log.write(f"line {number}\n".encode())
    log.close()
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        "a.log": "line 4\n",
        "a.log.1": "line 3\n",
        "a.log.2": "line 2\n",
    }
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_append_after_a_restart(tmp_path: Path) -> None:
    """What an earlier process wrote is retained and counts towards the size."""
    path = tmp_path / "a.log"
    for text in (b"first\n", b"second\n", b"third\n"):
        log = RotatingFile(path, size=14, keep=1)
        log.write(text)
        log.write(b"")
        log.close()
    log = RotatingFile(path, size=14, keep=1)
    log.write(b"")
    log.write(b"fourth\n")
    log.close()
    assert path.read_bytes() == b"fourth\n"
    assert path.with_name("a.log.1").read_bytes() == b"first\nsecond\nthird\n"


def test_links_are_refused(tmp_path: Path) -> None:
    """A symbolic link in place of the log is refused; in place of a rotated file it is replaced."""
    target = tmp_path / "target"
    target.write_text("keep")
    (tmp_path / "a.log").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        RotatingFile(tmp_path / "a.log").write(b"x")
    (tmp_path / "b.log.1").symlink_to(target)
    log = RotatingFile(tmp_path / "b.log", size=1, keep=1)
    log.write(b"x\n")
    log.write(b"y\n")
    log.close()
    assert target.read_text() == "keep"
    assert (tmp_path / "b.log.1").read_text() == "x\n"


def test_a_full_disk_loses_lines_only() -> None:
    """If the target cannot be written, the pump still reads its source and remembers the last lines."""
    reader, writer = os.pipe()
    pump = LogPump(os.fdopen(reader, "rb"), RotatingFile(Path("/dev/full")))
    pump.start()
    with os.fdopen(writer, "wb") as source:
        source.write(b"".join(b"line %d\n" % number for number in range(100)))
    pump.join(10)
    assert pump.tail().splitlines()[-1] == "line 99"
    assert len(pump.tail().splitlines()) == 60


@pytest.mark.parametrize(
    ("content", "count", "expected"),
    [
        (b"", 5, []),
        (b"a\nb\nc\n", 2, ["b", "c"]),
        (b"a\nb\nc", 2, ["b", "c"]),
        (b"a\nb\n", 50, ["a", "b"]),
        (b"a\nb\n", 0, []),
        (b"a\n\n", 2, ["a", ""]),
        (b"\n", 2, [""]),
        ("x\u2028y\x0cz\n".encode(), 5, ["x\u2028y\x0cz"]),
        (b"\xff\n", 1, ["\ufffd"]),
    ],
)
def test_tail(tmp_path: Path, content: bytes, count: int, expected: list[str]) -> None:
    """The last lines are returned unchanged, and only a newline ends a line."""
    path = tmp_path / "a.log"
    path.write_bytes(content)
    assert list(tail_of(path, count)) == expected


def test_tail_since(tmp_path: Path) -> None:
    """Lines before the offset are left out, unless the file is shorter than the offset."""
    path = tmp_path / "a.log"
    path.write_text("old\nnew\n")
    assert list(tail_of(path, 5, since=4)) == ["new"]
    assert list(tail_of(path, 5, since=8)) == []
    assert list(tail_of(path, 5, since=400)) == ["old", "new"]
    assert list(tail_of(tmp_path / "none", 5)) == []


def test_tail_of_a_huge_file(tmp_path: Path) -> None:
    """Only the end of a large log is read."""
    path = tmp_path / "a.log"
    with path.open("wb") as stream:
        stream.truncate(1 << 34)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\nlast\n")
    assert list(tail_of(path, 1)) == ["last"]
