"""What in a home is ours, by name, and how it is set aside and removed. Anything else is somebody's, and stays.

Theory of operation. A removal has two halves. *Set aside*: each thing is renamed within its directory
(``runtime/current`` to ``runtime/.current.removed``), which can be taken back by renaming again. *Erase*: what was
set aside gets its last name (``.current.erased``), from which there is no way back, and is deleted; so are
directories of ours that are empty then. After a kill in the first half the next run goes on in either direction,
after one in the second half it deletes on: an uninstall, or `recover` before any other verb.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.fs.files import remove_path
from mosaic_gateway.gateway.control.program import current_link
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.backup.stored_backups import LEFTOVER, NAME, backups_of
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

TORN = r"\.[\w.-]+\.[0-9a-f]{8}\.tmp"
#: Names of ours in a home's directories; in what they name, everything is ours.
RUNTIME = re.compile(
    rf"postgresql-[\w.]+|gateway-[\w.+!]+|pglite-[\w.-]+|node-[\w.]+|node\.json|current|\.postgresql-[\w.]+\.reverted|{TORN}"
)
COMMAND = re.compile(rf"mosaic-gateway|{TORN}")
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


def inventory(home: Home, *, everything: bool) -> tuple[Path, ...]:
    """Return what goes: of an uninstall, or with *everything* of a purge."""
    return (*programs(home), *(data_and_settings(home) if everything else ()))


def set_aside(paths: tuple[Path, ...]) -> None:
    """Rename *paths* within their directories. Raises OSError."""
    for path in paths:
        path.rename(path.with_name(f".{path.name}.removed"))


def put_back_removed(home: Home) -> None:
    """Take back every `set_aside` in *home* that was not erased. Raises OSError."""
    for path in _renamed(home, "removed"):
        before = path.with_name(path.name.removeprefix(".").removesuffix(".removed"))
        if not before.exists():
            path.rename(before)


def erase(home: Home, *, everything: bool) -> None:
    """Delete what was set aside in *home*, and the directories that are empty now. Raises OSError."""
    for path in _renamed(home, "removed"):
        path.rename(path.with_name(f"{path.name.removesuffix('.removed')}.erased"))
    erase_leftovers(home)
    _remove_empty(home, everything=everything)


def erased(home: Home) -> tuple[Path, ...]:
    """Return what is of no use any more: what an `erase` that was killed left in *home*, and `_former_programs`."""
    return (*_renamed(home, "erased"), *_former_programs(home))


def erase_leftovers(home: Home) -> None:
    """Delete what `erased` names; what is only set aside stays. Raises OSError."""
    leftovers = erased(home)
    roots = [path.name for path in leftovers if path.lstat().st_uid == 0 and not path.is_symlink()]
    if roots and home.broker is not None:
        home.broker.ask(Request.REMOVE_FORMER_PROGRAMS, {"names": roots})
    for path in leftovers:
        remove_path(path)
    for directory in {path.parent for path in leftovers} & {launcher(Home(home.path)).parent, home.path / "runtime"}:
        with suppress(OSError):  # something that is not ours lies in it
            directory.rmdir()


def _former_programs(home: Home) -> tuple[Path, ...]:
    """Return the programs that version 0.1.0 put into a home of root's making, once there are others in their place.

    After an upgrade they are kept as long as there is a way back to them.
    """
    if home.programs is None or not current_link(home).is_symlink() or (home.path / "last-upgrade.json").exists():
        return ()
    own = Home(home.path)
    return (*_named(launcher(own).parent, COMMAND), *_named(own.runtime, RUNTIME))


def _remove_empty(home: Home, *, everything: bool) -> None:
    for directory in _directories(home, everything=everything):
        with suppress(OSError):  # something that is not ours lies in it
            directory.rmdir()


def is_erased(home: Home) -> bool:
    """Return whether nothing that was set aside is left in *home*."""
    return not _renamed(home, "removed") and not erased(home)


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
    """Return the places in the home; what root has made elsewhere is removed by root's process (`programs`)."""
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
