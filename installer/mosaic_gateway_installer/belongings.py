"""What in a home is ours, by name, and how it is set aside and removed. Anything else is somebody's, and stays.

Theory of operation. A removal has two halves. *Set aside*: each thing is renamed within its directory
(``runtime/current`` to ``runtime/.current.removed``), which can be taken back by renaming again. *Erase*: what was
set aside gets its last name (``.current.erased``), from which there is no way back, and is deleted; so are
directories of ours that are empty then. A kill in the first half is mended by the next run in either direction, one
in the second half by erasing on.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.config import Home
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway_installer.backups.place import LEFTOVER, NAME, backups_of
from mosaic_gateway_installer.snapshot.store import launcher, remove_from_runtime

__all__ = [
    "belongings",
    "bring_back",
    "data_and_settings",
    "erase",
    "has_empty_directories",
    "is_erased",
    "programs",
    "set_aside",
]

TORN = r"\.[\w.-]+\.[0-9a-f]{8}\.tmp"
#: Names of ours in a home's directories; in what they name, everything is ours.
RUNTIME = re.compile(
    rf"postgresql-[\w.]+|gateway-[\w.+!]+|pglite-[\w.-]+|node-[\w.]+|node\.json|current|\.postgresql-[\w.]+\.reverted|{TORN}"
)
COMMAND = re.compile(rf"mosaic-gateway|{TORN}")
ERASED_SNAPSHOT = re.compile(r"\.(gateway-[\w.+!]+|\.gateway-[\w.+!]+\.[0-9a-f]{8}\.tmp)\.erased")
RUN = re.compile(rf"[a-z-]+\.(lock|json|pid|sock)|\.s\.PGSQL\.\d+(\.lock)?|{TORN}")
LOGS = re.compile(r"[a-z-]+\.log(\.\d+)?")
DATA = re.compile(
    rf"postgres-\d+|pglite(\.lock)?|\.ballast|\.upgrading|\.major-upgrade\.json|\.postgres-\d+\.reverted|{TORN}"
)
SECRETS = re.compile(rf"[a-z0-9-]+|{TORN}")
TOP = re.compile(rf"{TORN}|\.restored\.tmp|\.upgraded\.tmp|last-upgrade\.json")
SETTINGS = re.compile(r"config\.toml|upgrade\.json")
BACKUPS = re.compile(rf"{NAME.pattern}|{LEFTOVER.pattern}")


def programs(home: Home) -> tuple[Path, ...]:
    """Return what an uninstall removes: programs, sockets, locks, logs, and what killed runs were writing."""
    return tuple(path for directory, names in _program_places(home) for path in _named(directory, names))


def data_and_settings(home: Home) -> tuple[Path, ...]:
    """Return what only a purge removes beyond `programs`: data, secrets, settings, backups."""
    return tuple(path for directory, names in _data_places(home) for path in _named(directory, names))


def belongings(home: Home, *, everything: bool) -> tuple[Path, ...]:
    """Return what goes: of an uninstall, or with *everything* of a purge."""
    return (*programs(home), *(data_and_settings(home) if everything else ()))


def set_aside(paths: tuple[Path, ...]) -> None:
    """Rename *paths* within their directories. Raises OSError."""
    for path in paths:
        path.rename(path.with_name(f".{path.name}.removed"))


def bring_back(home: Home) -> None:
    """Take back every `set_aside` in *home* that was not erased. Raises OSError."""
    for path in _renamed(home, "removed"):
        before = path.with_name(path.name.removeprefix(".").removesuffix(".removed"))
        if not before.exists():
            path.rename(before)


def erase(home: Home, account: Account | None, *, everything: bool) -> None:
    """Delete what was set aside in *home* of *account*, and the directories that are empty now. Raises OSError."""
    with assume(account):
        for path in _renamed(home, "removed"):
            path.rename(path.with_name(f"{path.name.removesuffix('.removed')}.erased"))
    remove_from_runtime(home, ERASED_SNAPSHOT)  # root's own where root installed: as ourselves
    with assume(account):
        for path in _renamed(home, "erased"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        _remove_empty(home, everything=everything)


def _remove_empty(home: Home, *, everything: bool) -> None:
    for directory in _directories(home, everything=everything):
        with suppress(OSError):  # something that is not ours lies in it
            directory.rmdir()


def is_erased(home: Home) -> bool:
    """Return whether nothing that was set aside is left in *home*."""
    return not _renamed(home, "removed") and not _renamed(home, "erased")


def has_empty_directories(home: Home, *, everything: bool) -> bool:
    """Return whether a directory is there that `erase` would remove because nothing lies in it."""
    return any(
        directory.is_dir() and not any(directory.iterdir()) for directory in _directories(home, everything=everything)
    )


def _directories(home: Home, *, everything: bool) -> tuple[Path, ...]:
    places = (*_program_places(home), *(_data_places(home) if everything else ()))
    return tuple(dict.fromkeys(directory for directory, _ in places if directory != home.path))


Places = tuple[tuple[Path, re.Pattern[str]], ...]


def _program_places(home: Home) -> Places:
    return (
        (launcher(home).parent, COMMAND),
        (home.runtime, RUNTIME),
        (home.run, RUN),
        (home.logs, LOGS),
        (home.path, TOP),
    )


def _data_places(home: Home) -> Places:
    return (home.data, DATA), (home.secrets, SECRETS), (home.path, SETTINGS), (backups_of(home), BACKUPS)


def _renamed(home: Home, ending: str) -> list[Path]:
    """Return what of ours has been renamed so."""
    return [
        path
        for directory, names in (*_program_places(home), *_data_places(home))
        for path in _named(directory, re.compile(rf"\.({names.pattern})\.{ending}"))
    ]


def _named(directory: Path, names: re.Pattern[str]) -> tuple[Path, ...]:
    try:
        with os.scandir(directory) as entries:
            found = sorted(entry.name for entry in entries if names.fullmatch(entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(directory / name for name in found)
