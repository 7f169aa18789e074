"""A copy of data that is at work, made ahead of a cold backup, and brought up to date once nobody works any more.

Theory of operation. Copying takes long, comparing less, and what has changed meanwhile is little. So the files are
copied while their database serves: torn, of many instants, some gone by the end; nothing is believed of that copy. Once
the database is at rest, every name, mode and byte of it is compared with the source; what differs is copied again, and
compared again. No time of change is trusted: a write that was under way when its file was read may have none.
Hashes are taken of what was written, while more of it is; they hold for all that is not copied again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mosaic_gateway.fs.files import make_directory
from mosaic_gateway_installer.backup.content_digest import hashing
from mosaic_gateway_installer.backup.tree_comparison import Comparison, FileEntry, compare_trees
from mosaic_gateway_installer.backup.tree_copy import Skip, copy_tree

__all__ = ["EarlyCopy", "bring_up_to_date", "copy_ahead"]

COPIERS = 8  # as in copy.py: flushing waits for the disk
COMPARERS = 2
TOP = "."


@dataclass(frozen=True, slots=True)
class EarlyCopy:
    """A copy made ahead: the directory that holds it until it is needed, the copy, and a hash of each of its files."""

    place: Path
    copy: Path
    files: tuple[FileEntry, ...]


def copy_ahead(
    data: Path,
    place: Path,
    *,
    skip: Skip,
    progress: Callable[[int], None] | None = None,
) -> EarlyCopy:
    """Copy *data*, which others may change meanwhile, into the new directory *place*.

    *skip* must leave out at least what `bring_up_to_date` will leave out. Raises OSError; then nothing is left of it.
    """
    copy = place / data.name
    try:
        make_directory(place)
        with hashing() as (follow, hashed):
            copy_tree(data, copy, skip=skip, vanishing=True, progress=progress, follow=follow)
        return EarlyCopy(place, copy, hashed())
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def bring_up_to_date(source: Path, copy: Path, files: Sequence[FileEntry], *, skip: Skip) -> Comparison:
    """Make *copy* what *source* is, which nobody changes any more; tell what still differs, and every file.

    *files* are the copy's as it was made ahead; what was copied again has no hash. Raises OSError.
    """
    stale = _outermost({one.path for one in compare_trees(source, copy, skip=skip, hashes=False).differences})
    with ThreadPoolExecutor(COPIERS, thread_name_prefix="renew") as pool:
        list(pool.map(lambda path: _renew(source, copy, path, skip), stale))
    there = [path for path in stale if os.path.lexists(copy / path)]
    with ThreadPoolExecutor(COMPARERS, thread_name_prefix="again") as pool:
        again = [*zip(there, pool.map(lambda path: _compared(source, copy, path, skip), there), strict=True)]
    found = [entry for entry in files if not _is_in(entry.path, stale)]
    found += [replace(entry, path=_joined(path, entry.path)) for path, one in again for entry in one.files]
    return Comparison(
        tuple(replace(other, path=_joined(path, other.path)) for path, one in again for other in one.differences),
        tuple(sorted(found, key=lambda entry: entry.path)),
    )


def _renew(source: Path, copy: Path, path: str, skip: Skip) -> None:
    """Let *path* of the copy be what it is in the source, if it is there."""
    old = copy / path
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)
    if os.path.lexists(source / path):
        copy_tree(source / path, old, skip=_below(path, skip))


def _compared(source: Path, copy: Path, path: str, skip: Skip) -> Comparison:
    return compare_trees(source / path, copy / path, skip=_below(path, skip), hashes=False)


def _below(path: str, skip: Skip) -> Skip:
    """Return what asks *skip* of what is below *path*."""
    return lambda name: skip(_joined(path, name))


def _joined(path: str, name: str) -> str:
    if path == TOP:
        return name
    return path if name == TOP else f"{path}/{name}"


def _outermost(paths: set[str]) -> list[str]:
    """Return those of *paths* that lie below none of the others."""
    if TOP in paths:
        return [TOP]
    return sorted(path for path in paths if not _is_in(path.rpartition("/")[0], paths))


def _is_in(path: str, tops: Sequence[str] | set[str]) -> bool:
    """Return whether *path* is one of *tops*, or below one."""
    if TOP in tops:
        return True
    while path:
        if path in tops:
            return True
        path = path.rpartition("/")[0]
    return False
