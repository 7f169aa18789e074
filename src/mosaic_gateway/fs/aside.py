"""Files and directories set aside: renamed within their directory, to be put back or deleted later.

Theory of operation. ``X`` set aside is ``.X.<reason>``, and `put_back` renames it to ``X``. What can only be deleted is
``.X.<8 hexadecimal digits>.erased``: a new name each time, so that what could not be deleted once does not obstruct a
later removal. After each rename(2) the directory is flushed. The names are the only record: after a kill at any instant
`lying_aside` returns what the next run has to put back or to delete. Version 0.1.0 erased without the digits.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs.permissions import is_denied, owner_name
from mosaic_gateway.fs.staging import remove_tree, sync_directory

__all__ = [
    "Aside",
    "Reason",
    "RemovalIncompleteError",
    "erase",
    "lying_aside",
    "put_back",
    "require_erased",
    "set_aside",
]

RENAMED = re.compile(r"\.(?P<name>.+)\.(removed|reverted)")
MAX_NAMED = 5  # paths that an error message names


class Reason(StrEnum):
    """Why a file was set aside; the end of its name."""

    #: By an uninstall.
    REMOVED = "removed"
    #: By an ``upgrade --revert``.
    REVERTED = "reverted"
    #: To be deleted; it is not put back.
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Aside:
    """A file or directory that lies aside at ``path``; ``original`` is the path from before."""

    path: Path
    original: Path
    reason: Reason


class RemovalIncompleteError(MosaicError):
    """Some files could not be deleted; ``details`` has their paths."""

    code = "REMOVAL_INCOMPLETE"


def set_aside(paths: Iterable[Path], reason: Reason, *, as_far_as_possible: bool = False) -> None:
    """Rename *paths* for *reason*. What lies aside under such a name is older, and is only to be deleted from then on.

    *as_far_as_possible*: what this user cannot rename stays. Raises OSError.
    """
    paths = tuple(paths)
    for path in paths:
        renamed = path.with_name(f".{path.name}.{reason}")
        with _unless_fixed(skip=as_far_as_possible):
            if os.path.lexists(renamed):
                renamed.rename(_name_for_deletion(renamed))
            path.rename(renamed)
    _sync_parents(paths)


@contextmanager
def _unless_fixed(*, skip: bool) -> Iterator[None]:
    """With *skip*, suppress the errors of rename(2) for what cannot be renamed: denied access, a mount point."""
    try:
        yield
    except OSError as error:
        if not skip or not (is_denied(error) or error.errno == errno.EBUSY):
            raise


def lying_aside(directory: Path, names: re.Pattern[str], *reasons: Reason) -> tuple[Aside, ...]:
    """Return what lies aside in *directory* for *reasons*, by default all, sorted by name; none if it is closed.

    Only what was renamed from one of *names*: other files may have such endings, too.
    """
    forms = {reason: re.compile(rf"\.(?P<name>{names.pattern})\.{reason}") for reason in reasons or Reason}
    if Reason.ERASED in forms:
        forms[Reason.ERASED] = re.compile(rf"\.(?P<name>{names.pattern})(\.[0-9a-f]{{8}})?\.erased")
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        entries = sorted(directory.iterdir())
        found = ((path, reason, form.fullmatch(path.name)) for path in entries for reason, form in forms.items())
        return tuple(Aside(path, path.with_name(match["name"]), reason) for path, reason, match in found if match)
    return ()


def put_back(lying: Iterable[Aside]) -> None:
    """Rename what is *lying* aside to its original names; where such a file exists again, it stays aside.

    Raises OSError.
    """
    restored = [one for one in lying if not os.path.lexists(one.original)]
    for one in restored:
        one.path.rename(one.original)
    _sync_parents(one.path for one in restored)


def erase(paths: Iterable[Path]) -> tuple[Path, ...]:
    """Delete *paths*, under names that no process takes for the whole, and return what could not be deleted.

    Those that do not exist, or are already so named, are accepted. Raises OSError only if a rename fails for another
    reason than denied access or a mount point.
    """
    erased = []
    for path in paths:
        if os.path.lexists(path):
            renamed = _name_for_deletion(path)
            with _unless_fixed(skip=True):
                path.rename(renamed)
            erased.append(renamed if os.path.lexists(renamed) else path)
    _sync_parents(erased)
    for path in erased:
        remove_tree(path)
    return tuple(left for path in erased if os.path.lexists(path) for left in _remains(path))


def require_erased(remaining: Sequence[Path]) -> None:
    """Raise `RemovalIncompleteError`, which names the owners, if *remaining* has paths."""
    if not remaining:
        return
    named = [f"{path} ({_described(path)})" for path in remaining[:MAX_NAMED]]
    more = f", and {len(remaining) - MAX_NAMED} more" if len(remaining) > MAX_NAMED else ""
    mounts = [str(path) for path in remaining[:MAX_NAMED] if _is_mount(path)]
    others = [str(path) for path in remaining[:MAX_NAMED] if str(path) not in mounts]
    steps = (["umount", *mounts] if mounts else [], ["rm", "-rf", *others] if others else [])
    words = " && ".join(shlex.join(step) for step in steps if step)
    raise RemovalIncompleteError(
        f"{len(remaining)} file(s) could not be deleted: {', '.join(named)}{more}",
        hint=f"Everything else is deleted. As root: {words}. Then run the command again.",
        details={"paths": [str(path) for path in remaining]},
    )


def _described(path: Path) -> str:
    return f"{'a mount point, ' if _is_mount(path) else ''}owned by {owner_name(path)}"


def _is_mount(path: Path) -> bool:
    with suppress(OSError):
        return path.is_mount()
    return False


def _name_for_deletion(path: Path) -> Path:
    if path.name.endswith(f".{Reason.ERASED}"):
        return path
    renamed = RENAMED.fullmatch(path.name)
    name = path.name if renamed is None else renamed["name"]
    return path.with_name(f".{name}.{secrets.token_hex(4)}.{Reason.ERASED}")


def _sync_parents(paths: Iterable[Path]) -> None:
    for directory in dict.fromkeys(path.parent for path in paths):
        with suppress(PermissionError):  # nothing in it was renamed
            sync_directory(directory)


def _remains(path: Path) -> list[Path]:
    """Return the files below *path*, and the directories that are empty or cannot be read; *path* itself if a file."""
    children: list[Path] = []
    if path.is_dir() and not path.is_symlink():
        with suppress(OSError):
            children = sorted(path.iterdir())
    return [below for child in children for below in _remains(child)] or [path]
