"""Plan of root's installation before anything is created: check the path of the home and choose the account."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.config import SYSTEM_HOME
from mosaic_gateway.installation import MachineRecord, key_of, machine_records
from mosaic_gateway.process import (
    Account,
    FoundPath,
    UnsafePathError,
    account_named,
    closed_part,
    find_path,
    open_directory,
    process_environment,
)
from mosaic_gateway_installer.checks.home_errors import HomeForeignError, HomeUnusableError, RunAsError
from mosaic_gateway_installer.root.program_requests import PROGRAMS
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An installation that root is about to create. ``account`` is None if it must be created too."""

    record: MachineRecord
    account: Account | None


def plan_installation(found: FoundPath, known: MachineRecord | None, options: Options) -> Planned:
    """Return the plan for the home that was *found*; *known* is root's record of it.

    Raises `RunAsError`, `HomeForeignError`, `HomeUnusableError`, `UnsafePathError`, OSError.
    """
    home = found.path
    _check_path(found)
    name, account, is_new = _choose_account(home, known, options)
    check_run_as(home, name, options)
    _check_reachable(home, account, name)
    missing = [home, *home.parents][: len(found.missing)]
    record = MachineRecord(
        home=home,
        account=name,
        uid=account.uid if account is not None else 0,
        programs=program_directory(home, known, options),
        account_created=is_new or (known is not None and known.account_created and known.account == name),
        directories=tuple(reversed(missing)) or (known.directories if known is not None else ()),
        command=COMMAND if home == SYSTEM_HOME else None,
        host=host_of(known, options),
        port=port_of(known, options),
    )
    return Planned(record=record, account=account)


def _check_path(found: FoundPath) -> None:
    """Check that no other user can replace the home, and that it is new or an empty directory."""
    home = found.path
    if found.status is None:
        parent = os.fstat(found.parent)
        if parent.st_uid != 0:
            raise UnsafePathError(
                f"root creates no home below a directory that another user owns: {home}",
                hint="Choose a --home below a directory that root owns, or install as that user.",
            )
        return
    if not found.is_directory:
        raise HomeUnusableError(f"{home} is not a directory", hint="Choose another --home.")
    entries = entries_of(found)
    if entries:
        raise HomeForeignError(
            f"{home} is owned by root and not empty: {', '.join(entries[:5])}",
            hint="Nothing was changed. Choose an empty or new directory with --home.",
        )


def _check_reachable(home: Path, account: Account | None, name: str) -> None:
    closed = closed_part(home.parent, account)
    if closed is not None:
        raise HomeUnusableError(
            f"{name} has no access to {closed}, so PostgreSQL could not reach {home}",
            hint="Choose a --home below a directory that every user can enter, such as /var/lib.",
        )


def check_run_as(home: Path, name: str, options: Options) -> None:
    """Raise `RunAsError` if ``--run-as`` gives another account than *name*, the owner of *home*."""
    run_as = options.get("run_as")
    if run_as not in {None, name}:
        raise RunAsError(f"{home} belongs to {name}", hint="Omit --run-as, or choose another --home.")


def _choose_account(home: Path, known: MachineRecord | None, options: Options) -> tuple[str, Account | None, bool]:
    """Return name and account of the home's future owner, and whether root must create the account."""
    if known is not None:
        account = account_named(known.account)
        return known.account, account, account is None
    run_as = options.get("run_as")
    if run_as is not None:
        account = account_named(str(run_as))
        if account is None or account.uid == 0:
            raise RunAsError(
                f"{run_as} {'is root, as which PostgreSQL refuses to run' if account else 'does not exist'}",
                hint="Give an existing user other than root with --run-as.",
            )
        return account.name, account, False
    taken = {record.account for record in machine_records() if record.account_created}
    account = account_named(SERVICE_ACCOUNT)
    of_other_home = account is not None and account.comment == COMMENT and Path(account.directory) != home
    if SERVICE_ACCOUNT not in taken and not of_other_home:
        return SERVICE_ACCOUNT, account, account is None
    further = f"{SERVICE_ACCOUNT}-{key_of(home)[:8]}"
    return further, account_named(further), account_named(further) is None


def program_directory(home: Path, known: MachineRecord | None, options: Options) -> Path:
    """Return the directory of programs for *home*. Raises UnsafePathError, `HomeForeignError`, OSError."""
    if known is not None:
        return known.programs
    named = options.get("program_dir")
    directory = Path(named) if named is not None else PROGRAMS / key_of(home)
    with find_path(directory, roots=True) as found:
        if found.is_directory and named is not None and any(found.path.iterdir()):
            raise HomeForeignError(
                f"{directory} is not empty", hint="Give an empty or new directory with --program-dir."
            )
        return found.path


def host_of(known: MachineRecord | None, options: Options) -> str | None:
    """Return the host on which the gateway shall listen, from root's options, environment or record."""
    named = options.get("host") or process_environment().get("MOSAIC_GATEWAY_HOST")
    return str(named) if named else (known.host if known is not None else None)


def port_of(known: MachineRecord | None, options: Options) -> int | None:
    """Return the port on which the gateway shall listen, from root's options, environment or record."""
    named = options.get("port") or process_environment().get("MOSAIC_GATEWAY_PORT") or ""
    if str(named).isdecimal() and 0 < int(named) <= HIGHEST_PORT:
        return int(named)
    return known.port if known is not None else None


def entries_of(found: FoundPath) -> list[str]:
    """Return the names of the entries of the directory that was *found*. Raises OSError."""
    directory = open_directory(found)
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208 - of a descriptor
    finally:
        os.close(directory)
