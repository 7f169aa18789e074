"""The place of the home: may it be made, or used, and by whom?"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

from mosaic_gateway.errors import MosaicError, PreflightError, RefusedError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.layout_check import check_layout
from mosaic_gateway_installer.checks.finding import Check, NotCheckedError
from mosaic_gateway_installer.checks.home_errors import HomeForeignError, HomeUnusableError
from mosaic_gateway_installer.checks.preflight.target import Subject
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt

__all__ = [
    "CHECKS",
    "HomeForeignError",
    "HomeModeError",
    "HomeUnusableError",
    "check_home",
    "inspect_home",
]

#: What a shell does not take literally between double quotes.
UNQUOTABLE = re.compile(r'["$`\\\x00-\x1f\x7f]')
#: What may lie in a directory that is to become a home: what a killed first step, or restore, leaves.
LEFT_BY_US = re.compile(r"\.lock|journal\.jsonl|\.receipt\.json\.[0-9a-f]{8}\.tmp|\.restor(ing|ed\.tmp)")


class HomeModeError(PreflightError):
    """Others can read or write the home."""

    code = "HOME_MODE"


class HomeNoExecError(PreflightError):
    """The file system of the home runs no programs."""

    code = "HOME_NOEXEC"


class PurgeInterruptedError(RefusedError):
    """The home's data was given up, and is partly gone."""

    code = "PURGE_INTERRUPTED"


def inspect_home(home: Home) -> tuple[Receipt | None, MosaicError | None]:
    """Return the receipt in *home*, and why the place cannot be used; writes nothing.

    The fault is a `HomeUnusableError`, `HomeModeError`, `HomeLayoutError`, `HomeForeignError`,
    `PurgeInterruptedError` or RecordError.
    """
    try:
        return check_home(home), None
    except MosaicError as fault:
        return None, fault


def check_home(home: Home) -> Receipt | None:
    """Return the receipt in *home*, which is known to be usable then. Raises the faults of `inspect_home`."""
    if home.broker is not None and "account_to_make" in home.broker.facts:  # root's process has looked at the place
        return None
    try:
        _check_place(home.path)
        check_layout(home)
    except OSError as error:
        raise HomeUnusableError(
            f"{home.path} cannot be used: {error.strerror}", hint="Choose another --home."
        ) from error
    receipt = read_receipt(home)
    if receipt is not None and receipt.state is ReceiptState.PURGING:
        raise PurgeInterruptedError(
            f"a purge of {home.path} did not come to its end",
            hint=f"Let it go on: mosaic-gateway uninstall --home {home.path} --purge={receipt.instance_id}",
        )
    if receipt is None and home.path.is_dir():
        foreign = sorted(entry.name for entry in home.path.iterdir() if not LEFT_BY_US.fullmatch(entry.name))
        if foreign:
            raise HomeForeignError(
                f"{home.path} is no installation, and it is not empty: {', '.join(foreign[:5])}",
                hint="Nothing was changed. Choose an empty or new directory with --home.",
            )
    return receipt


def home(subject: Subject) -> str:
    """Say whether the home can be made, or used as it is. Raises what `inspect_home` found."""
    if subject.home_fault is not None:
        raise subject.home_fault
    place = subject.config.home.path
    return f"{place} {'is there' if place.is_dir() else 'can be made'}, closed to other users"


def programs(subject: Subject) -> str:
    """Say whether programs may run from the home. Raises `HomeNoExecError`."""
    if not subject.uses_wheel:
        raise NotCheckedError("not needed: no programs are copied into the home")
    subject.need_home()
    programs = subject.config.home.runtime
    place = next(candidate for candidate in (programs, *programs.parents) if candidate.exists())
    if os.statvfs(place).f_flag & getattr(os, "ST_NOEXEC", 0):
        raise HomeNoExecError(
            f"no program may run from {place}: it is mounted noexec",
            hint="Choose another --home, or mount it without noexec.",
        )
    return f"programs may run from {place}"


def path(subject: Subject) -> str:
    """initdb gives the paths of its programs to a shell in double quotes (find_other_exec in src/common/exec.c)."""
    place = str(subject.config.home.path)
    if subject.config.engine is EngineName.POSTGRES and UNQUOTABLE.search(place):
        raise HomeUnusableError(
            f"PostgreSQL cannot work below {place!r}",
            hint='Choose a --home without any of " $ ` \\ and control characters.',
        )
    return f"{place} can be used"


def _check_place(path: Path) -> None:
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
            f"{path} cannot be made: {parent} cannot be written to by this user",
            hint="Choose another --home (MOSAIC_GATEWAY_HOME), or run as another user.",
        )


CHECKS: tuple[Check[Subject], ...] = (
    Check(id="home", run=home),
    Check(id="path", run=path),
    Check(id="programs", run=programs),
)
