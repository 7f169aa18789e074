"""Checks of the home: receipt, owner and modes, leftovers, secret, disk space, clock."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.config import load_auth_secret
from mosaic_gateway.engines import postgres
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation import (
    EngineName,
    Home,
    ReceiptState,
    check_layout,
    home_locked,
    read_mark,
    unfinished_error,
)
from mosaic_gateway.process import DiskFullError, holder_of
from mosaic_gateway_installer.checks import home_errors
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.step import Target
from mosaic_gateway_installer.uninstall.inventory import erase_leftovers, leftovers

__all__ = ["CHECKS"]

MEGABYTE = 1024**2
#: WAL grows in segments of 16 MB; without space for the next one the database stops.
FAULT_BELOW = 64 * MEGABYTE
WARNING_BELOW = 256 * MEGABYTE
MIN_FREE_FILES = 500


class IncompleteError(PreflightError):
    """An install or uninstall was interrupted."""

    code = "INSTALL_INCOMPLETE"


class LeftoversError(AdviceError):
    """There are temporary or partly deleted files that killed processes left."""

    code = "LEFTOVERS"


class DiskLowError(AdviceError):
    """There is little free disk space."""

    code = "DISK_LOW"


class UninstalledError(AdviceError):
    """The home has only the data that an uninstall retained."""

    code = "UNINSTALLED"


class ReserveMissingError(AdviceError):
    """The disk space that crash recovery can use on a full disk is not reserved."""

    code = "RESERVE_MISSING"


def _receipt(target: Target) -> str:
    receipt, home = target.installed, target.home
    _require_no_change_in_progress(home)
    mark = read_mark(home)
    if mark is not None:
        raise unfinished_error(home, mark)
    if receipt.state is ReceiptState.RETAINED:
        raise UninstalledError(
            "the installation was uninstalled and its data retained", hint="Adopt the data: " + command("install")
        )
    if receipt.state is ReceiptState.PURGING:
        raise home_errors.purge_interrupted(home, receipt)
    if receipt.state is not ReceiptState.INSTALLED or home.journal.exists():
        raise IncompleteError("an install or uninstall was interrupted", hint="Run " + command("install") + ".")
    return f"instance {receipt.instance_id}, version {receipt.version}"


def _require_no_change_in_progress(home: Home) -> None:
    holder = holder_of(home.lock)
    if holder is not None:
        raise NotCheckedError(f"not checked: process {holder.pid} is changing it ({holder.facts.get('verb')})")


@dataclass(frozen=True, slots=True)
class _Wrong:
    """A path with a wrong mode or owner, and the right ones."""

    path: Path
    mode: int
    owner: int
    group: int


def _modes(target: Target) -> str:
    wrong = list(_wrong_paths(target.home))
    if wrong:
        first = wrong[0]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise home_errors.HomeModeError(
            f"{first.path} is open to other users, closed to its owner, or owned by another user{more}",
            hint=_remedy(first),
            details={"paths": [str(one.path) for one in wrong]},
        )
    check_layout(target.home)
    return "the home is closed to other users, and every file in it has the right owner"


def _remedy(wrong: _Wrong) -> Text:
    path = shlex.quote(str(wrong.path))
    if not _is_foreign(wrong):
        return "Set the mode: " + command("doctor", "--fix") + f", or chmod {wrong.mode:o} {path}"
    status = wrong.path.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        return f"Only root can change that. The file has other hard links: check first what it is, ls -li {path}"
    return f"Only root can change that: chown -h {wrong.owner}:{wrong.group} {path}"


def _is_foreign(wrong: _Wrong) -> bool:
    return wrong.path.lstat().st_uid != wrong.owner


def _wrong_paths(home: Home) -> Iterator[_Wrong]:
    """Yield paths with a wrong mode or owner in the upper levels of the home, which protect what is below them."""
    owner = home.path.stat()
    listed = [home.path, *_children(home.path)]
    listed += [path for directory in (home.secrets, home.data, home.run, home.logs) for path in _children(directory)]
    for path in listed:
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            mode = 0o700
        elif stat.S_ISREG(status.st_mode):
            mode = 0o600
        else:  # a socket is protected by its directory; the mode of a symbolic link is not used
            continue
        if status.st_mode & 0o077 or status.st_mode & mode != mode or status.st_uid != owner.st_uid:
            yield _Wrong(path, mode, owner.st_uid, owner.st_gid)


def _children(directory: Path) -> list[Path]:
    """Return the entries of *directory*; none if it is a symbolic link, not a directory, or not readable."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        return sorted(directory.iterdir()) if not directory.is_symlink() else []
    return []


def _repair_modes(target: Target, fault: MosaicError) -> str:
    """Set the modes of the owner's paths; leave those of another user as they are."""
    if not isinstance(fault, home_errors.HomeModeError):
        raise fault
    repaired, foreign = [], []
    for wrong in _wrong_paths(target.home):
        if _is_foreign(wrong):
            foreign.append(str(wrong.path))
        else:
            wrong.path.chmod(wrong.mode)
            repaired.append(str(wrong.path))
    left = f"owned by another user, so only root can change it: {', '.join(foreign)}"
    if foreign and not repaired:
        raise home_errors.HomeModeError(left)
    return f"set the mode of {', '.join(repaired) or 'nothing'}{f'; {left}' if foreign else ''}"


def _leftovers(target: Target) -> str:
    _require_no_change_in_progress(target.home)
    found = [*_unfinished(target.home), *leftovers(target.home)]
    if found:
        raise LeftoversError(
            f"killed processes left files: {', '.join(map(str, found))}",
            hint="They only take space. Remove them: " + command("doctor", "--fix"),
            details={"paths": [str(path) for path in found]},
        )
    return "none"


def _unfinished(home: Home) -> list[Path]:
    directories = (home.path, *(path for path in _children(home.path) if path.is_dir()))
    return [path for directory in directories for path in _children(directory) if fs.TEMPORARY.fullmatch(path.name)]


def _remove_leftovers(target: Target, _fault: MosaicError) -> str:
    home = target.home
    with home_locked(home, "doctor"):
        unfinished_paths = _unfinished(home)
        count = len(unfinished_paths) + len(leftovers(home))
        remaining = erase_leftovers(home)
        for path in (path for path in unfinished_paths if path.parent != home.runtime):
            fs.remove_tree(path, strict=True)
    fs.require_erased(remaining)
    return f"removed {count} file(s)"


def _secret(target: Target) -> str:
    load_auth_secret(target.config)
    return "the authentication secret exists"


def _disk_space(target: Target) -> str:
    home = target.home
    status = os.statvfs(home.path)
    free = status.f_bavail * status.f_frsize
    summary = f"{free // MEGABYTE} MB free in {home.path}"
    hint = "Free some space, or move the home to a larger file system (stop, move, start with --home)."
    details = {"free_bytes": free, "free_files": status.f_favail}
    if free < FAULT_BELOW:
        raise DiskFullError(f"{summary}: the database will stop", hint=hint, details=details)
    if status.f_files and status.f_favail < MIN_FREE_FILES:
        raise DiskFullError(f"{home.path} can hold {status.f_favail} more files", hint=hint, details=details)
    if free < WARNING_BELOW:
        raise DiskLowError(summary, hint=hint, details=details)
    embedded = target.config.engine is EngineName.POSTGRES and home.data.is_dir()
    if embedded and not postgres.disk_reserve_file(home).exists() and hasattr(os, "posix_fallocate"):
        raise ReserveMissingError(
            "the 64 MB that crash recovery can use on a full disk are not reserved",
            hint="The next start reserves them, and so does " + command("doctor", "--fix") + ".",
        )
    return summary


def _create_reserve(target: Target, fault: MosaicError) -> str:
    if not isinstance(fault, ReserveMissingError):
        raise fault
    postgres.create_disk_reserve(target.home)
    if not postgres.disk_reserve_file(target.home).exists():
        raise fault
    return "reserved 64 MB"


CHECKS: tuple[Check, ...] = (
    Check(id="receipt", run=_receipt),
    Check(id="owner and modes", run=_modes, fix=_repair_modes),
    Check(id="leftovers", run=_leftovers, fix=_remove_leftovers),
    Check(id="secret", run=_secret),
    Check(id="disk space", run=_disk_space, fix=_create_reserve),
)
