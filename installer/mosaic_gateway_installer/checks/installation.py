"""The home itself: receipt, owner and modes, leftovers, secret, room."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway.config import load_auth_secret
from mosaic_gateway.engines.base import DiskFullError
from mosaic_gateway.engines.postgres.disk_reserve import create_disk_reserve, disk_reserve_file
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.layout_check import check_layout
from mosaic_gateway.installation.upgrade_state import read_mark, unfinished
from mosaic_gateway.process.file_lock import holder_of
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.installed_target import Installation
from mosaic_gateway_installer.clock import check_clock
from mosaic_gateway_installer.home_lock import home_locked
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.receipt import ReceiptState
from mosaic_gateway_installer.uninstall.inventory import erase_leftovers, erased

__all__ = ["CHECKS"]

MEGABYTE = 1024**2
#: PostgreSQL's log of changes grows by 16 MB at a time; without room for it the database stops.
LEAST_ROOM = 64 * MEGABYTE
GOOD_ROOM = 256 * MEGABYTE
LEAST_FILES = 500
#: Names that this package gives to what it has not finished; whoever finds one later knows that its maker died.
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


class IncompleteError(PreflightError):
    """An install or uninstall did not come to its end."""

    code = "INSTALL_INCOMPLETE"


class ModeError(PreflightError):
    """Files or directories of the home are open to other users, closed to their owner, or another user's."""

    code = "HOME_MODE"


class LeftoversError(AdviceError):
    """Files are there that killed processes had not finished, or had not finished to delete."""

    code = "LEFTOVERS"


class DiskLowError(AdviceError):
    """There is little room left."""

    code = "DISK_LOW"


class ReserveMissingError(AdviceError):
    """The space that recovery may use on a full disk is not set aside."""

    code = "RESERVE_MISSING"


def _receipt(installation: Installation) -> str:
    receipt, home = installation.receipt, installation.home
    _leave_to_others(home)
    mark = read_mark(home)
    if mark is not None:
        raise unfinished(home, mark)
    if receipt.state is ReceiptState.RETAINED:
        raise IncompleteError("it was uninstalled, its data is kept", hint="To take it up: mosaic-gateway install.")
    if receipt.state is not ReceiptState.INSTALLED or home.journal.exists():
        raise IncompleteError("an install or uninstall did not come to its end", hint="Run mosaic-gateway install.")
    return f"instance {receipt.instance_id}, version {receipt.version}"


def _leave_to_others(home: Home) -> None:
    holder = holder_of(home.lock)
    if holder is not None:
        raise NotCheckedError(f"not checked: process {holder.pid} changes it ({holder.facts.get('verb')})")


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A path with its right mode, and whose it shall be."""

    path: Path
    mode: int
    owner: int
    group: int


def _modes(installation: Installation) -> str:
    wrong = list(_wrong_paths(installation.home))
    if wrong:
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ModeError(
            f"{first.path} is open to other users, closed to its owner, or another user's{more}",
            hint=_remedy(first),
            details={"paths": [str(one.path) for one in wrong]},
        )
    check_layout(installation.home)
    return "the home is closed to other users, and all its owner's"


def _remedy(wrong: _Wrong) -> str:
    path = shlex.quote(str(wrong.path))
    if not _is_foreign(wrong):
        return f"mosaic-gateway doctor --fix, or: chmod {wrong.mode:o} {path}"
    status = wrong.path.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        return f"Only root can change that. It has other names, so see first whose file it is: ls -li {path}"
    return f"Only root can change that: chown -h {wrong.owner}:{wrong.group} {path}"


def _is_foreign(wrong: _Wrong) -> bool:
    return wrong.path.lstat().st_uid != wrong.owner


def _wrong_paths(home: Home) -> Iterator[_Wrong]:
    """Yield what has the wrong mode or owner, of the home's upper levels: what lies below is behind them."""
    whose = home.path.stat()
    listed = [home.path, *_children(home.path)]
    listed += [path for directory in (home.secrets, home.data, home.run, home.logs) for path in _children(directory)]
    for path in listed:
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            right = 0o700
        elif stat.S_ISREG(status.st_mode):
            right = 0o600
        else:  # a socket, whose directory keeps it; a link, whose mode means nothing
            continue
        if status.st_mode & 0o077 or status.st_mode & right != right or status.st_uid != whose.st_uid:
            yield _Wrong(path, right, whose.st_uid, whose.st_gid)


def _children(directory: Path) -> list[Path]:
    """Return what lies in *directory*; nothing if that is a link, or closed."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return sorted(directory.iterdir()) if not directory.is_symlink() else []
    return []


def _repair_modes(installation: Installation, fault: MosaicError) -> str:
    """Set the modes; a path of another user stays as it is."""
    if not isinstance(fault, ModeError):
        raise fault
    repaired, foreign = [], []
    for wrong in _wrong_paths(installation.home):
        if _is_foreign(wrong):
            foreign.append(str(wrong.path))
        else:
            wrong.path.chmod(wrong.mode)
            repaired.append(str(wrong.path))
    left = f"another user's, which only root can change: {', '.join(foreign)}"
    if foreign and not repaired:
        raise ModeError(left)
    return f"set the mode of {', '.join(repaired) or 'nothing'}{f' (not of {left})' if foreign else ''}"


def _leftovers(installation: Installation) -> str:
    _leave_to_others(installation.home)
    found = [*_unfinished(installation.home), *erased(installation.home)]
    if found:
        raise LeftoversError(
            f"files that killed processes left: {', '.join(map(str, found))}",
            hint="They harm nothing. To remove them: mosaic-gateway doctor --fix",
            details={"paths": [str(path) for path in found]},
        )
    return "nothing lies about"


def _unfinished(home: Home) -> list[Path]:
    places = (home.path, *(path for path in _children(home.path) if path.is_dir()))
    return [path for place in places for path in _children(place) if UNFINISHED.fullmatch(path.name)]


def _remove_leftovers(installation: Installation, _fault: MosaicError) -> str:
    home = installation.home
    with home_locked(home, "doctor"):
        found = _unfinished(home)
        count = len(found) + len(erased(home))
        erase_leftovers(home)
        programs_of(home).remove(())
        for path in (path for path in found if path.parent != home.runtime):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return f"removed {count} file(s)"


def _secret(installation: Installation) -> str:
    load_auth_secret(installation.config)
    return "the authentication secret is there"


def _room(installation: Installation) -> str:
    home = installation.home
    status = os.statvfs(home.path)
    free = status.f_bavail * status.f_frsize
    summary = f"{free // MEGABYTE} MB free in {home.path}"
    hint = "Make room, or move the home to a larger file system (stop, move, start with --home)."
    details = {"free_bytes": free, "free_files": status.f_favail}
    if free < LEAST_ROOM:
        raise DiskFullError(f"{summary}: the database will stop", hint=hint, details=details)
    if status.f_files and status.f_favail < LEAST_FILES:
        raise DiskFullError(f"{home.path} can hold {status.f_favail} more files", hint=hint, details=details)
    if free < GOOD_ROOM:
        raise DiskLowError(summary, hint=hint, details=details)
    embedded = installation.config.engine is EngineName.POSTGRES and home.data.is_dir()
    if embedded and not disk_reserve_file(home).exists() and hasattr(os, "posix_fallocate"):
        raise ReserveMissingError(
            "the 64 MB that recovery may use on a full disk are not set aside",
            hint="The next start does it, and so does mosaic-gateway doctor --fix.",
        )
    return summary


def _set_reserve_aside(installation: Installation, fault: MosaicError) -> str:
    if not isinstance(fault, ReserveMissingError):
        raise fault
    create_disk_reserve(installation.home)
    if not disk_reserve_file(installation.home).exists():
        raise fault
    return "set 64 MB aside"


def _clock(installation: Installation) -> str:
    return check_clock(datetime.now(UTC), installation.home, installation.receipt)


CHECKS: tuple[Check[Installation], ...] = (
    Check(id="receipt", run=_receipt),
    Check(id="owner and modes", run=_modes, fix=_repair_modes),
    Check(id="leftovers", run=_leftovers, fix=_remove_leftovers),
    Check(id="secret", run=_secret),
    Check(id="room", run=_room, fix=_set_reserve_aside),
    Check(id="clock", run=_clock),
)
