from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mosaic_gateway.fs.copying import copy_range


def copy(source: Path, target: Path, start: int, end: int) -> list[int]:
    """Copy the range from *source* to *target*; return the positions that were reported."""
    reported: list[int] = []
    with source.open("rb", buffering=0) as reader, target.open("r+b", buffering=0) as writer:
        copy_range(reader.fileno(), writer.fileno(), start, end, reported.append)
    return reported


@pytest.mark.parametrize("number", [None, errno.EXDEV, errno.ENOSYS])
def test_a_range_is_copied_to_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    """Also where copy_file_range(2) is not supported; a source that ends earlier ends the copy."""
    if number is not None:
        monkeypatch.setattr(os, "copy_file_range", _failing(number))
    content = os.urandom(3_000_000)
    (tmp_path / "source").write_bytes(content)
    (tmp_path / "target").write_bytes(bytes(len(content)))
    reported = copy(tmp_path / "source", tmp_path / "target", 1000, 4_000_000)
    assert (tmp_path / "target").read_bytes() == bytes(1000) + content[1000:]
    assert reported == sorted(reported)
    assert reported[-1] == len(content)


def test_other_errors_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is not an unsupported call."""
    monkeypatch.setattr(os, "copy_file_range", _failing(errno.ENOSPC))
    for name in ("source", "target"):
        (tmp_path / name).write_bytes(b"abc")
    with pytest.raises(OSError, match="No space"):
        copy(tmp_path / "source", tmp_path / "target", 0, 3)


def _failing(number: int) -> object:
    def fail(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    return fail
