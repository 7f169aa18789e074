"""The home directory and its receipt; the service account, and the home handed over to it."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway import __version__
from mosaic_gateway.config import Home
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.files import make_directory, remove_file
from mosaic_gateway.process.account import Account, account_named
from mosaic_gateway.process.command import run
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.steps.base import Context

__all__ = [
    "AccountStep",
    "HandOverStep",
    "HomeStep",
    "UserAddMissingError",
    "remove_account",
    "torn_files",
]

#: Names that `files.write_file` gives to what it has not finished.
TORN = re.compile(r"\.(receipt\.json|config\.toml|auth-secret)\.[0-9a-f]{8}\.tmp")
COMMAND_LIMIT = 30.0  # seconds


class UserAddMissingError(PreflightError):
    """This machine has no ``useradd`` with which to make the service account."""

    code = "USERADD_MISSING"


@dataclass(slots=True)
class HomeStep:
    """Makes the home, and writes the receipt first of all: from then on it is known to be ours."""

    context: Context
    id: str = "home"
    _made: list[Path] = field(default_factory=list)
    _wrote_receipt: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create {self.context.home.path}"

    def done(self) -> bool:
        """Return whether home and receipt are there, and nothing that a killed run was writing."""
        home = self.context.home
        complete = read_receipt(home) is not None and all(path.is_dir() for path in _directories(home))
        return complete and not torn_files(home)

    def apply(self) -> None:
        """Make what is missing of them."""
        context = self.context
        owner = context.home_owner
        for path in torn_files(context.home):
            remove_file(path)
        if read_receipt(context.home) is None:
            self._wrote_receipt = True
            write_receipt(context.home, _first_receipt(context), owner)
        for directory in _directories(context.home):
            if not directory.is_dir():
                self._made.append(directory)
                make_directory(directory)
                _give(directory, owner)

    def undo(self) -> None:
        """Remove what this run made of them, and the directories of steps that were undone before."""
        home = self.context.home
        for directory in self._made:
            shutil.rmtree(directory, ignore_errors=True)
        for directory in (home.runtime, home.data):
            with suppress(OSError):  # not empty, or never made
                directory.rmdir()
        if self._wrote_receipt:
            remove_file(home.receipt)


@dataclass(slots=True)
class AccountStep:
    """Makes the service account that PostgreSQL and the gateway run as when root installs."""

    context: Context
    name: str
    id: str = "account"
    _ours: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Create the service account {self.name}"

    def done(self) -> bool:
        """Return whether the machine knows the account and the receipt knows whose it is."""
        return account_named(self.name) is not None and not self.context.make_account

    def apply(self) -> None:
        """Make the account, without a password, a shell or a directory of its own."""
        self._ours = True
        if account_named(self.name) is None:
            useradd = shutil.which("useradd")
            if useradd is None:
                raise UserAddMissingError(
                    "this machine has no useradd", hint="Create a user for the gateway and name it with --run-as."
                )
            words = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
            home = ["--home-dir", str(self.context.home.path), "--comment", "mosaic-gateway service"]
            run([useradd, *words, *home, self.name], timeout=COMMAND_LIMIT)
        owner = self.context.home_owner
        for path in (self.context.home.lock, self.context.home.journal):
            if owner is not None and path.exists():  # the account was lost; root wrote them in its stead
                _give(path, owner)
        receipt = read_receipt(self.context.home)
        if receipt is not None:
            changed = replace(receipt, account=self.name, account_created=True)
            write_receipt(self.context.home, changed, owner)

    def undo(self) -> None:
        """Remove the account."""
        if self._ours:
            remove_account(self.name)


@dataclass(slots=True)
class HandOverStep:
    """Gives the home that root made to the account."""

    context: Context
    name: str
    id: str = "hand-over"
    _before: tuple[int, int] | None = None

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
        status = home.path.stat()
        self._before = status.st_uid, status.st_gid
        for root, directories, files in os.walk(home.path, topdown=False):
            for name in (*directories, *files):
                _give(os.path.join(root, name), account)  # noqa: PTH118 - os.walk gives texts
        _give(home.path, account)

    def undo(self) -> None:
        """Take the home back, so that it can be removed."""
        if self._before is not None:
            os.chown(self.context.home.path, *self._before)


def torn_files(home: Home) -> list[Path]:
    """Return what killed runs were writing (`files.write_file`), in the home and among its secrets."""
    return [
        path
        for directory in (home.path, home.secrets)
        if directory.is_dir()
        for path in directory.iterdir()
        if TORN.fullmatch(path.name)
    ]


def remove_account(name: str) -> None:
    """Remove the service account *name* and its group. Raises CommandFailedError."""
    userdel = shutil.which("userdel")
    if userdel is not None and account_named(name) is not None:
        run([userdel, name], timeout=COMMAND_LIMIT)


def _first_receipt(context: Context) -> Receipt:
    return Receipt(
        instance_id=secrets.token_hex(8),
        state=ReceiptState.INSTALLING,
        version=__version__,
        engine=context.config.engine,
        engine_reason=context.engine_reason,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        home_created=bool(context.new_directories),
        parents_created=tuple(map(str, context.new_directories[:-1])),
        account=context.account_name,
    )


def _directories(home: Home) -> tuple[Path, ...]:
    return home.secrets, home.run, home.logs


def _give(path: str | os.PathLike[str], account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
