"""Creation and removal of the service account, which owns the home of root's installation."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation import MachineRecord
from mosaic_gateway.process import Account, account_named, find_path, run
from mosaic_gateway_installer.root.process_search import process_running_as

__all__ = [
    "COMMENT",
    "SERVICE_ACCOUNT",
    "UserAddMissingError",
    "account_is_free",
    "create_account",
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
