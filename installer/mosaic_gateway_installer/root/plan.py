"""An installation of root's, before anything of it is made: is the place fit, and whose shall it be?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.config import SYSTEM_HOME, process_environment
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.machine_record import MachineRecord, key_of, machine_records
from mosaic_gateway.process.access import closed_part
from mosaic_gateway.process.account import Account, account_named
from mosaic_gateway.process.trusted_path import FoundPath, UnsafePathError, find_path, open_directory
from mosaic_gateway_installer.checks.home_errors import HomeForeignError, HomeUnusableError
from mosaic_gateway_installer.root.broker import PROGRAMS
from mosaic_gateway_installer.root.service_account import COMMENT, SERVICE_ACCOUNT

__all__ = [
    "COMMAND",
    "Options",
    "Planned",
    "check_run_as",
    "entries_of",
    "host_of",
    "plan_installation",
    "port_of",
    "program_directory",
]

COMMAND = Path("/usr/local/bin/mosaic-gateway")
HIGHEST_PORT = 65535
Options = Mapping[str, Any]


class RunAsError(UsageError):
    """The account that was named cannot own the installation."""

    code = "RUN_AS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An installation that root is about to make: ``account`` is None where that is still to be made."""

    record: MachineRecord
    account: Account | None


def plan_installation(found: FoundPath, known: MachineRecord | None, options: Options) -> Planned:
    """Return what would be made here. Raises `RunAsError`, `HomeForeignError`, `UnsafePathError` and the like."""
    home = found.path
    _check_place(found)
    name, account, make = _choose_account(home, known, options)
    check_run_as(home, name, options)
    _check_way(home, account, name)
    missing = [home, *home.parents][: len(found.missing)]
    record = MachineRecord(
        home=home,
        account=name,
        uid=account.uid if account is not None else 0,
        programs=program_directory(home, known, options),
        account_created=make or (known is not None and known.account_created and known.account == name),
        directories=tuple(reversed(missing)) or (known.directories if known is not None else ()),
        command=COMMAND if home == SYSTEM_HOME else None,
        host=host_of(known, options),
        port=port_of(known, options),
    )
    return Planned(record=record, account=account)


def _check_place(found: FoundPath) -> None:
    """Root makes a home only where no other user could put something in its place, and never over something."""
    home = found.path
    if found.status is None:
        parent = os.fstat(found.parent)
        if parent.st_uid != 0:
            raise UnsafePathError(
                f"root makes no home below the directory of another user: {home}",
                hint="Choose a --home below a directory of root's, or install as that user.",
            )
        return
    if not found.is_directory:
        raise HomeUnusableError(f"{home} is not a directory", hint="Choose another --home.")
    there = entries_of(found)
    if there:
        raise HomeForeignError(
            f"{home} is root's own, and it is not empty: {', '.join(there[:5])}",
            hint="Nothing was changed. Choose an empty or new directory with --home.",
        )


def _check_way(home: Path, account: Account | None, name: str) -> None:
    closed = closed_part(home.parent, account)
    if closed is not None:
        raise HomeUnusableError(
            f"{name} may not enter {closed}, so PostgreSQL could not reach {home}",
            hint="Choose a --home below a directory that is open to all, such as /var/lib.",
        )


def check_run_as(home: Path, name: str, options: Options) -> None:
    """Raise `RunAsError` if root has named another account than *name* for *home*."""
    run_as = options.get("run_as")
    if run_as not in {None, name}:
        raise RunAsError(f"{home} belongs to {name}", hint="Leave --run-as out, or choose another --home.")


def _choose_account(home: Path, known: MachineRecord | None, options: Options) -> tuple[str, Account | None, bool]:
    """Return name and account of the home's owner to be, and whether root is to make it."""
    if known is not None:
        account = account_named(known.account)
        return known.account, account, account is None
    run_as = options.get("run_as")
    if run_as is not None:
        account = account_named(str(run_as))
        if account is None or account.uid == 0:
            raise RunAsError(
                f"{run_as} is {'root' if account else 'no user of this machine'}; PostgreSQL refuses to run so",
                hint="Name an existing user other than root.",
            )
        return account.name, account, False
    own = f"{SERVICE_ACCOUNT}-{key_of(home)[:8]}"
    taken = {record.account for record in machine_records() if record.account_created}
    account = account_named(SERVICE_ACCOUNT)
    of_another = account is not None and account.comment == COMMENT and Path(account.directory) != home
    if SERVICE_ACCOUNT not in taken and not of_another:
        return SERVICE_ACCOUNT, account, account is None
    return own, account_named(own), account_named(own) is None


def program_directory(home: Path, known: MachineRecord | None, options: Options) -> Path:
    """Return the directory of programs for *home*. Raises UnsafePathError, `HomeForeignError`, OSError."""
    if known is not None:
        return known.programs
    named = options.get("program_dir")
    directory = Path(named) if named is not None else PROGRAMS / key_of(home)
    with find_path(directory, roots=True) as found:
        if found.is_directory and named is not None and any(found.path.iterdir()):
            raise HomeForeignError(
                f"{directory} is not empty", hint="Name an empty or new directory with --program-dir."
            )
        return found.path


def host_of(known: MachineRecord | None, options: Options) -> str | None:
    """Return where root has said that the gateway listens."""
    named = options.get("host") or process_environment().get("MOSAIC_GATEWAY_HOST")
    return str(named) if named else (known.host if known is not None else None)


def port_of(known: MachineRecord | None, options: Options) -> int | None:
    """Return the port on which root has said that the gateway listens."""
    named = options.get("port") or process_environment().get("MOSAIC_GATEWAY_PORT") or ""
    if str(named).isdecimal() and 0 < int(named) <= HIGHEST_PORT:
        return int(named)
    return known.port if known is not None else None


def entries_of(found: FoundPath) -> list[str]:
    """Return the names of what lies in the directory that was *found*. Raises OSError."""
    directory = open_directory(found)
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208 - of a descriptor
    finally:
        os.close(directory)
