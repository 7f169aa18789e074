"""Creation and removal of the service account, which owns the home of root's installation, and its processes.

Searches for the processes of an account, and for supervisors of a home that run as root.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation import MachineRecord
from mosaic_gateway.process import Account, account_named, find_path, run

__all__ = [
    "COMMENT",
    "SERVICE_ACCOUNT",
    "UserAddMissingError",
    "account_is_free",
    "create_account",
    "end_roots_supervisors",
    "process_running_as",
    "remove_account",
]

SERVICE_ACCOUNT = "mosaic-gateway"
COMMENT = "mosaic-gateway service"
LIMIT = 30.0  # seconds


class UserAddMissingError(PreflightError):
    """This machine has no ``useradd`` to create the service account with."""

    code = "USERADD_MISSING"


def create_account(record: MachineRecord) -> Account:
    """Create the account of *record* and return it; with the recorded user id if it existed before.

    Raises `UserAddMissingError`, CommandFailedError.
    """
    useradd = shutil.which("useradd")
    if useradd is None:
        raise UserAddMissingError(
            "this machine has no useradd, so no service account can be created",
            hint="Create a user for the gateway and give its name with --run-as.",
        )
    options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    home = ["--home-dir", str(record.home), "--comment", COMMENT]
    former_uid = ["--uid", str(record.uid)] if record.uid else []
    run([useradd, *options, *home, *former_uid, record.account], timeout=LIMIT)
    account = account_named(record.account)
    if account is None:
        raise LookupError(record.account)
    return account


def remove_account(name: str) -> None:
    """Remove the account *name* and its group. Raises CommandFailedError."""
    userdel = shutil.which("userdel")
    if userdel is not None and account_named(name) is not None:
        run([userdel, name], timeout=LIMIT)


def account_is_free(account: Account, home: Path) -> bool:
    """Return whether the account no longer owns *home*, and only children of this process run as it."""
    with find_path(home) as found:
        return found.owner != account.uid and process_running_as(account, but=os.getpid()) is None


def process_running_as(account: Account, *, but: int) -> int | None:
    """Return the pid of a process that runs as *account*, except descendants of the process *but*.

    Processes in containers are not counted: there the same user id is another user. Like userdel, this recognises them
    by their root directory.
    """
    import psutil

    excluded = {child.pid for child in psutil.Process(but).children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in excluded and process.uids().real == account.uid and _has_same_root(process.pid):
                return process.pid
    return None


def _has_same_root(pid: int) -> bool:
    """Return whether the process has this process's root directory, or has left it by a user namespace of its own.

    Without a user namespace, only root can have given it another root directory. Raises OSError.
    """
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").is_dir():
        return True
    return (process / "root").samefile("/") or not (process / "ns/user").samefile("/proc/self/ns/user")


def end_roots_supervisors(home: Path) -> None:
    """Send SIGTERM to every supervisor of *home* that runs as root.

    In version 0.1.0 the supervisor ran as root if the account could not run the interpreter or the port was below
    1024. It is recognised by its command line, which only root can have set for a process of root's.
    """
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == 0 and _supervises(process.cmdline(), home) and _has_same_root(process.pid):
                process.send_signal(signal.SIGTERM)


def _supervises(words: list[str], home: Path) -> bool:
    return "supervise" in words and words[words.index("supervise") + 1 :][:2] == ["--home", str(home)]
