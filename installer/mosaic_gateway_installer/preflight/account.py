"""The account that the home shall belong to, and its way to it."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

from mosaic_gateway.process.account import Account
from mosaic_gateway_installer.findings import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.preflight.home import HomeUnusableError
from mosaic_gateway_installer.preflight.subject import Subject
from mosaic_gateway_installer.service.choice import interpreter_closed_to
from mosaic_gateway_installer.steps.home import UserAddMissingError

__all__ = ["CHECKS"]


class InterpreterClosedError(AdviceError):
    """The service account cannot run the interpreter that the package is installed for."""

    code = "INTERPRETER_CLOSED"


def account(subject: Subject) -> str:
    """Say whether it can be made, and may enter its home. Raises `UserAddMissingError`, `HomeUnusableError`."""
    subject.need_home()
    home, name = subject.config.home.path, subject.account_name
    if subject.make_account and shutil.which("useradd") is None:
        raise UserAddMissingError(
            "this machine has no useradd to make a service account with", hint="Name an existing user with --run-as."
        )
    if name is None:
        return "the home belongs to this user"
    for parent in home.parents:
        if parent.exists() and not _may_pass(parent, subject.account):
            raise HomeUnusableError(
                f"{name} may not enter {parent}, so PostgreSQL could not reach {home}",
                hint="Choose a --home below a directory that is open to all, such as /var/lib.",
            )
    return f"the home belongs to {name}{', which is to be made' if subject.make_account else ''}"


def _may_pass(directory: Path, account: Account | None) -> bool:
    status = directory.stat()
    if account is not None and status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if account is not None and status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def interpreter(subject: Subject) -> str:
    """Say whether the account can run the interpreter itself. Raises `InterpreterClosedError`."""
    if subject.account_name is None:
        raise NotCheckedError("not needed: it runs as this user")
    closed = interpreter_closed_to(subject.account)
    if closed is not None:
        raise InterpreterClosedError(
            f"{subject.account_name} may not use this Python: {closed} is closed to it",
            hint="Root then starts the gateway, which gives root up, and no service can be registered. "
            "For a service, install with the system's Python: python3 -m venv /opt/mosaic-gateway",
        )
    return f"{subject.account_name} can run it"


CHECKS: tuple[Check[Subject], ...] = (Check(id="account", run=account), Check(id="interpreter", run=interpreter))
