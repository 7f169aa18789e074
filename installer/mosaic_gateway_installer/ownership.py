"""To whom a home belongs: the user who installs, or as root an account that the receipt, a flag or we name."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from mosaic_gateway.config import Home
from mosaic_gateway.errors import UsageError
from mosaic_gateway.process.account import Account, account_named, owner_of
from mosaic_gateway_installer.journal import Journal
from mosaic_gateway_installer.receipt import Receipt, ReceiptError, ReceiptState, read_receipt

__all__ = ["SERVICE_ACCOUNT", "RunAsError", "choose_account"]

SERVICE_ACCOUNT = "mosaic-gateway"


class RunAsError(UsageError):
    """The account that was named cannot own an installation."""

    code = "RUN_AS"


def choose_account(home: Home, run_as: str | None, receipt: Receipt | None) -> tuple[str | None, bool]:
    """Return the account that *home* belongs to (None: ourselves) and whether it is ours to make.

    Raises `RunAsError`, and `HomeOwnerError` for the home of a user who is gone.
    """
    if os.geteuid() != 0:
        if run_as is not None:
            raise RunAsError("only root can install for another user", hint="Leave --run-as out, or run as root.")
        return None, False
    if receipt is not None:
        return _account_of_receipt(home, run_as, receipt)
    if run_as is not None:
        account = account_named(run_as)
        if account is None or account.uid == 0:
            raise RunAsError(
                f"{run_as} is {'root' if account else 'no user of this machine'}; PostgreSQL refuses to run so",
                hint="Name an existing user other than root.",
            )
        return run_as, False
    return _service_account(home)


def _service_account(home: Home) -> tuple[str, bool]:
    """Return the account that serves a new *home*, and whether it is ours to make.

    One that another home of ours made goes with that home, and its user id may then be anybody's: a further
    home has an account of its own.
    """
    account = account_named(SERVICE_ACCOUNT)
    if account is None or not _came_with_another(account, home):
        return SERVICE_ACCOUNT, account is None
    own = f"{SERVICE_ACCOUNT}-{hashlib.sha256(os.fsencode(home.path)).hexdigest()[:8]}"
    return own, account_named(own) is None


def _came_with_another(account: Account, home: Home) -> bool:
    """Return whether the installation that *account* has for its home directory made it."""
    other = Home(Path(account.directory))
    if other == home:
        return False
    try:
        receipt = read_receipt(other)
    except ReceiptError:
        return True
    return receipt is not None and receipt.account == account.name and receipt.account_created


def _account_of_receipt(home: Home, run_as: str | None, receipt: Receipt) -> tuple[str | None, bool]:
    if receipt.account is None:  # an ordinary user installed it, and keeps it
        owner = owner_of(home.path)
        name, make = owner.name if owner is not None else None, False
    else:
        name, make = receipt.account, account_named(receipt.account) is None or _was_making(home, receipt)
    if run_as not in {None, name}:
        raise RunAsError(f"{home.path} belongs to {name}", hint="Leave --run-as out, or choose another --home.")
    return name, make


def _was_making(home: Home, receipt: Receipt) -> bool:
    """Return whether a killed run made the service account but could not yet note that in the receipt."""
    if receipt.account_created or receipt.state is not ReceiptState.INSTALLING:
        return False
    return Journal(home.journal, None).was_begun("account")
