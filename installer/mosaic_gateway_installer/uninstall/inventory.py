"""The files that an installation owns in its home, selected by name, and their removal. All other files stay.

Theory of operation. A removal has two phases. First, each file or directory is set aside within its directory; this can
be rolled back. Then what was set aside is erased, which cannot be rolled back, and empty directories are removed
(`mosaic_gateway.fs.aside`). After a kill in the first phase the next run rolls back or continues. After a kill in the
second phase, or if something could not be deleted, it deletes the rest: an uninstall, or recovery before another verb.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.gateway.control import current_link
from mosaic_gateway.installation import Home
from mosaic_gateway.process import Request
from mosaic_gateway_installer.backup.data_swap import SWAP
from mosaic_gateway_installer.backup.stored_backups import NAME, backups_of
from mosaic_gateway_installer.root.program_directory import OWN_NAMES

__all__ = [
    "closed_directories",
    "data_and_settings",
    "erase_inventory",
    "erase_leftovers",
    "has_empty_directories",
    "inventory",
    "is_purged",
    "leftovers",
    "lying_in",
    "programs",
    "put_back_removed",
    "set_inventory_aside",
]

#: Names that belong to the installation in each directory of a home, including everything below them.
RUNTIME = re.compile(rf"{OWN_NAMES.pattern}|{fs.TEMPORARY.pattern}")
COMMAND = re.compile(rf"mosaic-gateway|{fs.TEMPORARY.pattern}")
RUN = re.compile(rf"[a-z-]+\.(lock|json|pid|sock)|\.s\.PGSQL\.\d+(\.lock)?|{fs.TEMPORARY.pattern}")
LOGS = re.compile(r"[a-z-]+\.log(\.\d+)?")
DATA = re.compile(rf"postgres-\d+|pglite(\.lock)?|\.ballast|\.upgrading|\.major-upgrade\.json|{fs.TEMPORARY.pattern}")
SECRETS = re.compile(rf"[a-z0-9-]+|{fs.TEMPORARY.pattern}")
TOP = re.compile(rf"{fs.TEMPORARY.pattern}|last-upgrade\.json")
SETTINGS = re.compile(r"config\.toml|upgrade\.json")
BACKUPS = re.compile(rf"{NAME.pattern}|{fs.TEMPORARY.pattern}")
#: Parts of the home that a restore or a rollback replaces.
PARTS = re.compile(rf"secrets|data|{re.escape(SWAP)}")
#: What a killed restore or rollback of version 0.1.0 has replaced.
FORMER = re.compile(r"\.(restored|upgraded)\.tmp")


def programs(home: Home) -> tuple[Path, ...]:
    """Return what an uninstall removes: programs, sockets, lock files, logs, and temporary files of killed runs."""
    return tuple(path for directory, names in _program_places(home) for path in _named(directory, names))


def data_and_settings(home: Home) -> tuple[Path, ...]:
    """Return what only a purge removes: data, secrets, settings, backups."""
    return tuple(path for directory, names in _data_places(home) for path in _named(directory, names))


def inventory(home: Home, *, everything: bool) -> tuple[Path, ...]:
    """Return what an uninstall removes, or with *everything* what a purge removes."""
    return (*programs(home), *(data_and_settings(home) if everything else ()))


def set_inventory_aside(home: Home, *, everything: bool) -> None:
    """Set aside what an uninstall or a purge removes, except for what this user cannot rename. Raises OSError."""
    fs.set_aside(inventory(home, everything=everything), fs.Reason.REMOVED, as_far_as_possible=True)


def is_purged(home: Home) -> bool:
    """Return whether a purge has deleted everything in *home* that it can delete: only erased files may be left."""
    remaining = (*inventory(home, everything=True), *closed_directories(home, everything=True))
    return not remaining and not lying_in(home, fs.Reason.REMOVED)


def put_back_removed(home: Home) -> None:
    """Roll back `set_inventory_aside` for everything that was not erased. Raises OSError."""
    fs.put_back(lying_in(home, fs.Reason.REMOVED))


def erase_inventory(home: Home, *, everything: bool) -> tuple[Path, ...]:
    """Delete what was set aside in *home*, and then empty directories; return what could not be deleted.

    Raises OSError.
    """
    remaining = fs.erase(one.path for one in lying_in(home, fs.Reason.REMOVED))
    closed = closed_directories(home, everything=everything)
    remaining = (*remaining, *erase_leftovers(home), *inventory(home, everything=everything), *closed)
    for directory in _directories(home, everything=everything):
        with suppress(OSError):  # not empty: it contains other files
            directory.rmdir()
    return tuple(dict.fromkeys(remaining))


def closed_directories(home: Home, *, everything: bool) -> tuple[Path, ...]:
    """Return the directories of the home that this user cannot list."""
    directories = _directories(home, everything=everything)
    return tuple(path for path in directories if path.is_dir() and not os.access(path, os.R_OK | os.X_OK))


def lying_in(home: Home, *reasons: fs.Reason) -> tuple[fs.Aside, ...]:
    """Return what lies aside in *home* for *reasons*, by default all: what the next verb puts back or deletes."""
    places = [*_program_places(home), *_data_places(home), (home.path, PARTS)]
    if home.programs is not None:
        places.append((home.runtime, OWN_NAMES))
    return tuple(one for directory, names in places for one in fs.lying_aside(directory, names, *reasons))


def leftovers(home: Home) -> tuple[Path, ...]:
    """Return what can only be deleted: what was erased incompletely in *home*, and what earlier versions left."""
    erased = (one.path for one in lying_in(home, fs.Reason.ERASED) if one.path.parent != home.programs)
    return (*erased, *_named(home.path, FORMER), *_former_programs(home))


def erase_leftovers(home: Home) -> tuple[Path, ...]:
    """Delete what `leftovers` returns, and return what could not be deleted; what was set aside otherwise stays.

    Raises OSError.
    """
    paths = leftovers(home)
    owned_by_root = [path.name for path in paths if path.lstat().st_uid == 0 and not path.is_symlink()]
    if owned_by_root and home.broker is not None:
        home.broker.ask(Request.REMOVE_FORMER_PROGRAMS, {"names": owned_by_root})
    remaining = fs.erase(paths)
    for directory in {path.parent for path in paths} & {Home(home.path).launcher.parent, home.path / "runtime"}:
        with suppress(OSError):  # not empty: it contains other files
            directory.rmdir()
    return remaining


def _former_programs(home: Home) -> tuple[Path, ...]:
    """Return the programs that version 0.1.0, run by root, installed in the home, if later ones have replaced them.

    After an upgrade they are retained as long as it can be reverted.
    """
    if home.programs is None or not current_link(home).is_symlink() or (home.path / "last-upgrade.json").exists():
        return ()
    own = Home(home.path)
    return (*_named(own.launcher.parent, COMMAND), *_named(own.runtime, RUNTIME))


def has_empty_directories(home: Home, *, everything: bool) -> bool:
    """Return whether there is an empty directory that `erase_inventory` would remove."""
    closed = closed_directories(home, everything=everything)
    existing = (path for path in _directories(home, everything=everything) if path.is_dir() and path not in closed)
    return any(not any(directory.iterdir()) for directory in existing)


def _directories(home: Home, *, everything: bool) -> tuple[Path, ...]:
    places = (*_program_places(home), *(_data_places(home) if everything else ()))
    return tuple(dict.fromkeys(directory for directory, _ in places if directory != home.path))


Places = tuple[tuple[Path, re.Pattern[str]], ...]


def _program_places(home: Home) -> Places:
    """Return the directories in the home with their name patterns.

    Programs that root installed elsewhere are removed by root's process (`programs`).
    """
    own = Home(home.path)
    return (
        (own.launcher.parent, COMMAND),
        (own.runtime, RUNTIME),
        (home.run, RUN),
        (home.logs, LOGS),
        (home.path, TOP),
    )


def _data_places(home: Home) -> Places:
    return (home.data, DATA), (home.secrets, SECRETS), (home.path, SETTINGS), (backups_of(home), BACKUPS)


def _named(directory: Path, names: re.Pattern[str]) -> tuple[Path, ...]:
    try:
        return tuple(sorted(path for path in directory.iterdir() if names.fullmatch(path.name)))
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # a removal names what it cannot list
        return ()
