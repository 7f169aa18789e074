"""Hashes that are computed during a copy."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mosaic_gateway.fs.copying import STEP
from mosaic_gateway_installer.backup.copy_ahead import CHUNK, SMALL, hashing
from mosaic_gateway_installer.backup.tree_comparison import FileEntry
from mosaic_gateway_installer.backup.tree_copy import copy_tree


@pytest.mark.parametrize("final", [0, 1, SMALL - 1, SMALL + 1, 3 * SMALL, 5 * SMALL + 7])
def test_hash_of_the_final_file(tmp_path: Path, final: int) -> None:
    """The hash is the final file's, also if it was truncated, or extended beyond the last reported size."""
    path, reported = tmp_path / "copy", 3 * SMALL
    content = os.urandom(max(final, reported))
    with path.open("w+b", buffering=0) as stream:
        with hashing() as (follow, hashed), follow("base/1", stream.fileno()) as grown:
            start = 0
            for end in (CHUNK // 2, SMALL + 9, reported):
                stream.write(content[start:end])
                grown(end)
                start = end
            stream.truncate(final)
            start = stream.seek(min(final, reported))
            stream.write(content[start:final])
        assert hashed() == (FileEntry("base/1", final, hashlib.sha256(content[:final]).hexdigest()),)


def test_large_file_with_holes(tmp_path: Path) -> None:
    """Holes are hashed as zeros, also at the end of the file; each file has one entry."""
    source = tmp_path / "source"
    source.mkdir()
    with (source / "large").open("wb") as stream:
        stream.write(os.urandom(STEP + 4097))
        stream.seek(2 * STEP)
        stream.write(b"here")
        stream.truncate(3 * STEP)
    (source / "small").write_bytes(b"x" * 100)
    with hashing() as (follow, hashed):
        copy_tree(source, tmp_path / "copy", follow=follow)
    expected = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in source.iterdir()}
    assert {entry.path: entry.sha256 for entry in hashed()} == expected
    assert len(hashed()) == 2
    assert (tmp_path / "copy/large").read_bytes() == (source / "large").read_bytes()


def test_failed_copy(tmp_path: Path) -> None:
    """If the copy fails, the hashing threads end."""
    with (tmp_path / "copy").open("w+b") as stream, pytest.raises(OSError, match="full"):
        _fail_during_copy(stream.fileno())


def _fail_during_copy(descriptor: int) -> None:
    with hashing() as (follow, _), follow("copy", descriptor) as grown:
        grown(2 * SMALL)
        raise OSError(28, "full")
