"""The account that owns the home of root's installation: made, removed, and what it may enter."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation.machine_record import MachineRecord
from mosaic_gateway.process.account import Account, account_named
from mosaic_gateway.process.command import run
from mosaic_gateway.process.trusted_path import find_path
from mosaic_gateway_installer.root.process_search import process_running_as

__all__ = [
    "COMMENT",
    "SERVICE_ACCOUNT",
    "UserAddMissingError",
    "account_is_free",
    "make_account",
    "remove_account",
]

SERVICE_ACCOUNT = "mosaic-gateway"
COMMENT = "mosaic-gateway service"
LIMIT = 30.0  # seconds


class UserAddMissingError(PreflightError):
    """This machine has no ``useradd`` with which to make the service account."""

    code = "USERADD_MISSING"


def make_account(record: MachineRecord) -> Account:
    """Make the account of *record* and return it; one that was lost gets its user id again.

    Raises `UserAddMissingError`, CommandFailedError.
    """
    useradd = shutil.which("useradd")
    if useradd is None:
        raise UserAddMissingError(
            "this machine has no useradd to make a service account with",
            hint="Create a user for the gateway and name it with --run-as.",
        )
    words = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    home = ["--home-dir", str(record.home), "--comment", COMMENT]
    again = ["--uid", str(record.uid)] if record.uid else []
    run([useradd, *words, *home, *again, record.account], timeout=LIMIT)
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
    """Return whether *home* is not the account's any more, and nothing runs as it but our own children."""
    with find_path(home) as found:
        return found.owner != account.uid and process_running_as(account, but=os.getpid()) is None
