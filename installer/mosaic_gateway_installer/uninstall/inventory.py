"""The files that an installation owns in its home, selected by name, and their removal. All other files stay.

Theory of operation. A removal has two phases. *Set aside*: each file or directory is renamed within its directory
(``runtime/current`` to ``runtime/.current.removed``); this can be rolled back by another rename. *Erase*: what was
set aside is renamed a last time (``.current.erased``), which cannot be rolled back, and is deleted; then empty
directories are removed. After a kill in the first phase the next run rolls back or continues. After a kill in the
second phase it deletes the rest: an uninstall, or `recover` before another verb.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.fs.staging import TEMPORARY, remove_tree
from mosaic_gateway.gateway.control.program import current_link
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.backup.stored_backups import NAME, backups_of
from mosaic_gateway_installer.program_copy.store import launcher

__all__ = [
    "data_and_settings",
    "erase",
    "erase_leftovers",
    "erased",
    "has_empty_directories",
    "inventory",
    "is_erased",
    "programs",
    "put_back_removed",
    "set_aside",
]

#: Names that belong to the installation in each directory of a home, including everything below them.
RUNTIME = re.compile(
    rf"postgresql-[\w.]+|gateway-[\w.+!]+|pglite-[\w.-]+|node-[\w.]+|node\.json|current|\.postgresql-[\w.]+\.reverted|{TEMPORARY.pattern}"
)
COMMAND = re.compile(rf"mosaic-gateway|{TEMPORARY.pattern}")
RUN = re.compile(rf"[a-z-]+\.(lock|json|pid|sock)|\.s\.PGSQL\.\d+(\.lock)?|{TEMPORARY.pattern}")
LOGS = re.compile(r"[a-z-]+\.log(\.\d+)?")
DATA = re.compile(
    rf"postgres-\d+|pglite(\.lock)?|\.ballast|\.upgrading|\.major-upgrade\.json|\.postgres-\d+\.reverted|{TEMPORARY.pattern}"
)
SECRETS = re.compile(rf"[a-z0-9-]+|{TEMPORARY.pattern}")
TOP = re.compile(rf"{TEMPORARY.pattern}|\.restored\.tmp|\.upgraded\.tmp|last-upgrade\.json")
SETTINGS = re.compile(r"config\.toml|upgrade\.json")
BACKUPS = re.compile(rf"{NAME.pattern}|{TEMPORARY.pattern}")


def programs(home: Home) -> tuple[Path, ...]:
    """Return what an uninstall removes: programs, sockets, lock files, logs, and temporary files of killed runs."""
    return tuple(path for directory, names in _program_places(home) for path in _named(directory, names))


def data_and_settings(home: Home) -> tuple[Path, ...]:
    """Return what only a purge removes: data, secrets, settings, backups."""
    return tuple(path for directory, names in _data_places(home) for path in _named(directory, names))


def inventory(home: Home, *, everything: bool) -> tuple[Path, ...]:
    """Return what an uninstall removes, or with *everything* what a purge removes."""
    return (*programs(home), *(data_and_settings(home) if everything else ()))


def set_aside(paths: tuple[Path, ...]) -> None:
    """Rename *paths* within their directories. Raises OSError."""
    for path in paths:
        path.rename(path.with_name(f".{path.name}.removed"))


def put_back_removed(home: Home) -> None:
    """Roll back `set_aside` in *home* for everything that was not erased. Raises OSError."""
    for path in _renamed(home, "removed"):
        before = path.with_name(path.name.removeprefix(".").removesuffix(".removed"))
        if not before.exists():
            path.rename(before)


def erase(home: Home, *, everything: bool) -> None:
    """Delete what was set aside in *home*, and then empty directories. Raises OSError."""
    for path in _renamed(home, "removed"):
        path.rename(path.with_name(f"{path.name.removesuffix('.removed')}.erased"))
    erase_leftovers(home)
    _remove_empty(home, everything=everything)


def erased(home: Home) -> tuple[Path, ...]:
    """Return what can only be deleted: what a killed `erase` left in *home*, and `_former_programs`."""
    return (*_renamed(home, "erased"), *_former_programs(home))


def erase_leftovers(home: Home) -> None:
    """Delete what `erased` returns; what is only set aside stays. Raises OSError."""
    leftovers = erased(home)
    owned_by_root = [path.name for path in leftovers if path.lstat().st_uid == 0 and not path.is_symlink()]
    if owned_by_root and home.broker is not None:
        home.broker.ask(Request.REMOVE_FORMER_PROGRAMS, {"names": owned_by_root})
    for path in leftovers:
        remove_tree(path, strict=True)
    for directory in {path.parent for path in leftovers} & {launcher(Home(home.path)).parent, home.path / "runtime"}:
        with suppress(OSError):  # not empty: it contains other files
            directory.rmdir()


def _former_programs(home: Home) -> tuple[Path, ...]:
    """Return the programs that version 0.1.0, run by root, installed in the home, if later ones have replaced them.

    After an upgrade they are retained as long as it can be reverted.
    """
    if home.programs is None or not current_link(home).is_symlink() or (home.path / "last-upgrade.json").exists():
        return ()
    own = Home(home.path)
    return (*_named(launcher(own).parent, COMMAND), *_named(own.runtime, RUNTIME))


def _remove_empty(home: Home, *, everything: bool) -> None:
    for directory in _directories(home, everything=everything):
        with suppress(OSError):  # not empty: it contains other files
            directory.rmdir()


def is_erased(home: Home) -> bool:
    """Return whether nothing that was set aside is left in *home*."""
    return not _renamed(home, "removed") and not erased(home)


def has_empty_directories(home: Home, *, everything: bool) -> bool:
    """Return whether there is an empty directory that `erase` would remove."""
    return any(
        directory.is_dir() and not any(directory.iterdir()) for directory in _directories(home, everything=everything)
    )


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
        (launcher(own).parent, COMMAND),
        (own.runtime, RUNTIME),
        (home.run, RUN),
        (home.logs, LOGS),
        (home.path, TOP),
    )


def _data_places(home: Home) -> Places:
    return (home.data, DATA), (home.secrets, SECRETS), (home.path, SETTINGS), (backups_of(home), BACKUPS)


def _renamed(home: Home, ending: str) -> list[Path]:
    """Return the installation's files that were renamed with *ending*."""
    return [
        path
        for directory, names in (*_program_places(home), *_data_places(home))
        for path in _named(directory, re.compile(rf"\.({names.pattern})\.{ending}"))
    ]


def _named(directory: Path, names: re.Pattern[str]) -> tuple[Path, ...]:
    try:
        with os.scandir(directory) as entries:
            matching = sorted(entry.name for entry in entries if names.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(directory / name for name in matching)
