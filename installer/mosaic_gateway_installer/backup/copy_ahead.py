"""A copy of a running database's files, created ahead of a cold backup and brought up to date after the shutdown.

Theory of operation. Copying takes long, comparing takes less, and little changes meanwhile. So the files are copied
while their database serves. That copy is inconsistent: blocks are torn, files are from different instants, and some
are gone by the end. After the shutdown, every name, mode and byte of the copy is compared with the source; what differs
is copied and compared again. Modification times are not trusted: a write in progress while its file was read may not
change the time. Hashes are computed during the copy, and remain valid for every file that is not copied again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway_installer.backup.content_digest import hashing
from mosaic_gateway_installer.backup.tree_comparison import Comparison, FileEntry, compare_trees
from mosaic_gateway_installer.backup.tree_copy import Skip, copy_tree

__all__ = ["EarlyCopy", "bring_up_to_date", "copy_ahead"]

COPIERS = 8  # as `tree_copy.WORKERS`: fsync waits for the disk
COMPARERS = 2
TOP = "."


@dataclass(frozen=True, slots=True)
class EarlyCopy:
    """A copy created ahead: its temporary directory, the copy in it, and the entry of each of its files."""

    directory: Path
    copy: Path
    files: tuple[FileEntry, ...]


def copy_ahead(
    data: Path,
    directory: Path,
    *,
    skip: Skip,
    progress: Callable[[int], None] | None = None,
) -> EarlyCopy:
    """Copy *data*, which other processes may change meanwhile, into the new *directory*.

    *skip* must exclude at least what `bring_up_to_date` will exclude. Raises OSError, after removing the copy.
    """
    copy = directory / data.name
    try:
        fs.make_directory(directory)
        with hashing() as (follow, hashed):
            copy_tree(data, copy, skip=skip, vanishing=True, progress=progress, follow=follow)
        return EarlyCopy(directory, copy, hashed())
    except BaseException:
        fs.remove_tree(directory)
        raise


def bring_up_to_date(source: Path, copy: Path, files: Sequence[FileEntry], *, skip: Skip) -> Comparison:
    """Make *copy* equal to *source*, which no process changes any more; return remaining differences and all files.

    *files* are the entries of the copy created ahead. Files that were copied again have no hash. Raises OSError.
    """
    differences = compare_trees(source, copy, skip=skip, hashes=False).differences
    stale = _outermost({difference.path for difference in differences})
    with ThreadPoolExecutor(COPIERS, thread_name_prefix="renew") as pool:
        list(pool.map(lambda path: _renew(source, copy, path, skip), stale))
    renewed = [path for path in stale if os.path.lexists(copy / path)]
    with ThreadPoolExecutor(COMPARERS, thread_name_prefix="again") as pool:
        again = [*zip(renewed, pool.map(lambda path: _compare(source, copy, path, skip), renewed), strict=True)]
    entries = [entry for entry in files if not _is_in(entry.path, stale)]
    entries += [replace(entry, path=_joined(path, entry.path)) for path, result in again for entry in result.files]
    return Comparison(
        tuple(replace(other, path=_joined(path, other.path)) for path, result in again for other in result.differences),
        tuple(sorted(entries, key=lambda entry: entry.path)),
    )


def _renew(source: Path, copy: Path, path: str, skip: Skip) -> None:
    """Replace *path* in the copy by that of the source; remove it if the source has none."""
    old = copy / path
    fs.remove_tree(old, strict=True)
    if os.path.lexists(source / path):
        copy_tree(source / path, old, skip=_below(path, skip))


def _compare(source: Path, copy: Path, path: str, skip: Skip) -> Comparison:
    return compare_trees(source / path, copy / path, skip=_below(path, skip), hashes=False)


def _below(path: str, skip: Skip) -> Skip:
    """Return *skip* for names relative to *path*."""
    return lambda name: skip(_joined(path, name))


def _joined(path: str, name: str) -> str:
    if path == TOP:
        return name
    return path if name == TOP else f"{path}/{name}"


def _outermost(paths: set[str]) -> list[str]:
    """Return those of *paths* that are not below any of the others."""
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
