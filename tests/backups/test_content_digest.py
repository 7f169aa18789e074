"""Hashes that are taken while a copy grows."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from mosaic_gateway_installer.backup.content_digest import CHUNK, SMALL, hashing
from mosaic_gateway_installer.backup.tree_comparison import FileEntry
from mosaic_gateway_installer.backup.tree_copy import STEP, copy_tree


@pytest.mark.parametrize("final", [0, 1, SMALL - 1, SMALL + 1, 3 * SMALL, 5 * SMALL + 7])
def test_the_hash_is_that_of_the_file_in_the_end(tmp_path: Path, final: int) -> None:
    """Grown step by step, cut off, or grown beyond what was told: what counts is what is there at the end."""
    path, summary = tmp_path / "copy", 3 * SMALL
    content = os.urandom(max(final, summary))
    with path.open("w+b", buffering=0) as stream:
        with hashing() as (follow, hashed), follow("base/1", stream.fileno()) as grown:
            for end in (CHUNK // 2, SMALL + 9, summary):
                stream.write(content[stream.tell() : end])
                grown(end)
            stream.truncate(final)
            stream.seek(min(final, summary))
            stream.write(content[stream.tell() : final])
        assert hashed() == (FileEntry("base/1", final, hashlib.sha256(content[:final]).hexdigest()),)


def test_a_large_file_with_holes_is_followed_to_its_end(tmp_path: Path) -> None:
    """Holes count as the zeros that they read as, also the one at the end; each file is told of once."""
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


def test_a_copy_that_fails_ends_its_followers(tmp_path: Path) -> None:
    """Nobody waits for bytes that will never come."""
    with (tmp_path / "copy").open("w+b") as stream, pytest.raises(OSError, match="full"):
        _fail_on_the_way(stream.fileno())


def _fail_on_the_way(descriptor: int) -> None:
    with hashing() as (follow, _), follow("copy", descriptor) as grown:
        grown(2 * SMALL)
        raise OSError(28, "full")
