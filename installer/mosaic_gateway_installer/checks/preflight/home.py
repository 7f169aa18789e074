"""Checks that the home can be created or used at its path, and a warning about other homes on this machine."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mosaic_gateway import fs
from mosaic_gateway.config import SYSTEM_HOME, default_home
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.installation import EngineName, Home, Receipt, ReceiptState, check_layout, read_receipt
from mosaic_gateway.process import holder_of
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError, require_home
from mosaic_gateway_installer.checks.home_errors import (
    HomeForeignError,
    HomeModeError,
    HomeUnusableError,
    purge_interrupted,
)
from mosaic_gateway_installer.step import Target
from mosaic_gateway_installer.uninstall.inventory import is_purged

__all__ = ["CHECKS", "OTHERS_CHECKS", "HomeForeignError", "HomeUnusableError", "check_home", "inspect_home"]

#: How Python decodes the bytes of a path that are not UTF-8 (PEP 383).
NOT_UTF8 = re.compile("[\udc80-\udcff]")
#: Characters that a shell does not take literally between double quotes, and control characters.
UNQUOTABLE = re.compile(r'["$`\\\x00-\x1f\x7f]')
#: Files that a killed install or restore leaves in a directory that is not a home yet.
OWN_LEFTOVERS = re.compile(r"\.lock|journal\.jsonl|\.restor(ing|ed\.tmp)|\.\.restoring\.[0-9a-f]{8}\.erased")


class HomeNoExecError(PreflightError):
    """The file system of the home is mounted noexec."""

    code = "HOME_NOEXEC"


def inspect_home(home: Home) -> tuple[Receipt | None, MosaicError | None]:
    """Return the receipt in *home* and the error that says why the home cannot be used; writes nothing.

    The error is a `HomeUnusableError`, `HomeModeError`, `HomeLayoutError`, `HomeForeignError`,
    `PurgeInterruptedError` or RecordError.
    """
    try:
        return check_home(home), None
    except MosaicError as fault:
        return None, fault


def check_home(home: Home) -> Receipt | None:
    """Return the receipt in *home* after checking that the home can be used. Raises the errors of `inspect_home`."""
    if home.broker is not None and "account_to_make" in home.broker.facts:  # root's process has checked the path
        return None
    try:
        _check_path(home.path)
        check_layout(home)
    except OSError as error:
        raise HomeUnusableError(
            f"{home.path} cannot be used: {error.strerror}", hint="Choose another --home."
        ) from error
    receipt = read_receipt(home)
    if receipt is not None and receipt.state is ReceiptState.PURGING:
        if not is_purged(home):
            raise purge_interrupted(home, receipt)
        return None  # what could not be deleted is not in the way of a new installation
    if receipt is None and home.path.is_dir():
        others = {*home.path.iterdir()} - {*fs.temporaries(home.path, "receipt.json.")}
        foreign = sorted(path.name for path in others if not OWN_LEFTOVERS.fullmatch(path.name))
        if foreign:
            raise HomeForeignError(
                f"{home.path} is not an installation and not empty: {', '.join(foreign[:5])}",
                hint="Nothing was changed. Choose an empty or new directory with --home.",
            )
    return receipt


def home(target: Target) -> str:
    """Report that the home can be created, or used as it is. Raises the error of `inspect_home`."""
    if target.home_fault is not None:
        raise target.home_fault
    directory = target.home.path
    return f"{directory} {'exists and is' if directory.is_dir() else 'can be created,'} closed to other users"


def programs(target: Target) -> str:
    """Check that programs can be executed in the home. Raises `HomeNoExecError`."""
    if not target.uses_wheel:
        raise NotCheckedError("not needed: no programs are copied into the home")
    require_home(target)
    programs = target.home.runtime
    directory = next(candidate for candidate in (programs, *programs.parents) if candidate.exists())
    if os.statvfs(directory).f_flag & getattr(os, "ST_NOEXEC", 0):
        raise HomeNoExecError(
            f"programs cannot be executed in {directory}: it is mounted noexec",
            hint="Choose another --home, or mount it without noexec.",
        )
    return f"programs can be executed in {directory}"


def path(target: Target) -> str:
    """Check the characters of the path. Raises `HomeUnusableError`.

    initdb passes the paths of its programs to a shell in double quotes (find_other_exec in src/common/exec.c).
    """
    home_path = str(target.home.path)
    if NOT_UTF8.search(home_path):
        raise HomeUnusableError(
            f"the path {home_path!r} is not UTF-8, which the files of an installation are",
            hint="Choose another --home.",
        )
    if target.config.engine is EngineName.POSTGRES and UNQUOTABLE.search(home_path):
        raise HomeUnusableError(
            f"PostgreSQL cannot run in {home_path!r}",
            hint='Choose a --home without any of " $ ` \\ and control characters.',
        )
    return f"{home_path} can be used"


def _check_path(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        _check_parent(path)
        return
    if not path.is_dir():
        raise HomeUnusableError(f"{path} is not a directory", hint="Choose another --home.")
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise HomeUnusableError(f"{path} cannot be written to by this user", hint="Choose another --home.")
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise HomeModeError(
            f"{path} is open to other users (mode {mode:04o})", hint=f"Close it: chmod 700 {shlex.quote(str(path))}"
        )


def _check_parent(path: Path) -> None:
    parent = next(candidate for candidate in path.parents if candidate.exists())
    if not parent.is_dir():
        raise HomeUnusableError(f"{parent} is not a directory", hint="Choose another --home.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise HomeUnusableError(
            f"{path} cannot be created: {parent} cannot be written to by this user",
            hint="Choose another --home (MOSAIC_GATEWAY_HOME), or run as another user.",
        )


CHECKS: tuple[Check, ...] = (
    Check(id="home", run=home),
    Check(id="path", run=path),
    Check(id="programs", run=programs),
)


class OtherInstallationError(AdviceError):
    """There is another installation, with its own data."""

    code = "OTHER_INSTALLATION"


def others(target: Target) -> str:
    """Check the default homes. Raises `OtherInstallationError` for an installation in one of them."""
    described = []
    for path in _default_homes(target.home.path):
        receipt = _receipt(path)
        if receipt is not None:
            state = "data retained" if receipt.state is ReceiptState.RETAINED else f"version {receipt.version}"
            running = ", running" if _is_running(Home(path)) else ""
            described.append(f"{path} ({state}{running})")
    if described:
        first = described[0].partition(" (")[0]
        raise OtherInstallationError(
            f"there is another installation: {', '.join(described)}",
            hint=f"To use that one: --home {first}. The two installations share nothing.",
        )
    return "no other installation in the default homes"


def _default_homes(this_home: Path) -> Iterator[Path]:
    """Yield the default homes of this user and of root, except *this_home*."""
    for path in dict.fromkeys((default_home({}), SYSTEM_HOME)):
        if path.resolve() != this_home.resolve():
            yield path


def _receipt(path: Path) -> Receipt | None:
    with suppress(MosaicError, OSError):  # an installation that this user cannot read is not the intended one
        return read_receipt(Home(path))
    return None


def _is_running(home: Home) -> bool:
    with suppress(OSError):
        return holder_of(home.gateway_lock) is not None
    return False


OTHERS_CHECKS: tuple[Check, ...] = (Check(id="others", run=others),)
