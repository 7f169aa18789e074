"""The home directory and its receipt; the service account, and the home handed over to it."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mosaic_gateway import __version__
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.files import make_directory, remove_file
from mosaic_gateway.process.account import Account, account_named
from mosaic_gateway.process.command import run
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.steps.base import Context

__all__ = ["AccountStep", "HandOverStep", "HomeStep", "remove_account"]

COMMAND_LIMIT = 30.0  # seconds


class UseraddMissingError(PreflightError):
    """This machine has no ``useradd`` with which to make the service account."""

    code = "USERADD_MISSING"


@dataclass(frozen=True, slots=True)
class HomeStep:
    """Makes the home, and writes the receipt first of all: from then on it is known to be ours."""

    context: Context
    id: str = "home"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create {self.context.home.path}"

    def done(self) -> bool:
        """Return whether home and receipt are there."""
        home = self.context.home
        return read_receipt(home) is not None and all(path.is_dir() for path in (home.logs, home.run))

    def apply(self) -> None:
        """Make what is missing of them."""
        context = self.context
        make_directory(context.home.path)
        owner = context.home_owner
        if read_receipt(context.home) is None:
            receipt = Receipt(
                instance_id=secrets.token_hex(8),
                state=ReceiptState.INSTALLING,
                version=__version__,
                engine=context.config.engine,
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
                home_created=context.home_is_new,
                account=context.account_name,
            )
            write_receipt(context.home, receipt, owner)
        for directory in (context.home.secrets, context.home.run, context.home.logs):
            if not directory.is_dir():
                make_directory(directory)
                _give(directory, owner)

    def undo(self) -> None:
        """Remove the directories if they are empty, and the receipt; the home only if we made it."""
        home = self.context.home
        for directory in (home.run, home.logs):
            shutil.rmtree(directory, ignore_errors=True)
        for directory in (home.secrets, home.runtime, home.data):
            if directory.is_dir() and not any(directory.iterdir()):
                directory.rmdir()
        remove_file(home.receipt)


@dataclass(frozen=True, slots=True)
class AccountStep:
    """Makes the service account that PostgreSQL and the gateway run as when root installs."""

    context: Context
    name: str
    id: str = "account"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create the service account {self.name}"

    def done(self) -> bool:
        """Return whether the machine knows the account and the receipt knows whose it is."""
        return account_named(self.name) is not None and not self.context.make_account

    def apply(self) -> None:
        """Make the account, without a password, a shell or a directory of its own."""
        if account_named(self.name) is None:
            useradd = shutil.which("useradd")
            if useradd is None:
                raise UseraddMissingError(
                    "this machine has no useradd", hint="Create a user for the gateway and name it with --run-as."
                )
            words = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
            home = ["--home-dir", str(self.context.home.path), "--comment", "mosaic-gateway service"]
            run([useradd, *words, *home, self.name], timeout=COMMAND_LIMIT)
        receipt = read_receipt(self.context.home)
        if receipt is not None:
            changed = replace(receipt, account=self.name, account_created=True)
            write_receipt(self.context.home, changed, self.context.home_owner)

    def undo(self) -> None:
        """Remove the account."""
        remove_account(self.name)


@dataclass(frozen=True, slots=True)
class HandOverStep:
    """Gives the home that root made to the account."""

    context: Context
    name: str
    id: str = "hand-over"

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Give {self.context.home.path} to {self.name}"

    def done(self) -> bool:
        """Return whether the home belongs to the account."""
        account = account_named(self.name)
        path = self.context.home.path
        return account is not None and path.is_dir() and path.stat().st_uid == account.uid

    def apply(self) -> None:
        """Change the owner of all that root made so far; the home itself comes last."""
        account = self.context.account
        home = self.context.home
        for root, directories, files in os.walk(home.path, topdown=False):
            for name in (*directories, *files):
                _give(os.path.join(root, name), account)  # noqa: PTH118 - os.walk gives texts
        _give(home.path, account)

    def undo(self) -> None:
        """Take the home back, so that it can be removed."""
        os.chown(self.context.home.path, 0, 0)


def remove_account(name: str) -> None:
    """Remove the service account *name* and its group. Raises CommandFailedError."""
    userdel = shutil.which("userdel")
    if userdel is not None and account_named(name) is not None:
        run([userdel, name], timeout=COMMAND_LIMIT)


def _give(path: str | os.PathLike[str], account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
