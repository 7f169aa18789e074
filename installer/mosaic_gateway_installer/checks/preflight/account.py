"""Checks of the service account of root's installation. Root's process reads the facts and passes them on."""

from __future__ import annotations

from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]


class InterpreterClosedError(AdviceError):
    """The service account cannot run the Python interpreter that the package is installed for."""

    code = "INTERPRETER_CLOSED"


def account(target: Target) -> str:
    """Return who owns, or will own, the home. Root's process has checked that the account can reach it."""
    broker, name = target.home.broker, target.account_name
    if broker is None or name is None:
        return "the home belongs to this user"
    return f"the home belongs to {name}{', which is to be created' if broker.facts.get('account_to_make') else ''}"


def interpreter(target: Target) -> str:
    """Check that the account can run the interpreter. Raises `InterpreterClosedError`."""
    broker, name = target.home.broker, target.account_name
    if broker is None or name is None:
        raise NotCheckedError("not needed: it runs as this user")
    closed = broker.facts.get("interpreter_closed")
    if closed is not None:
        raise InterpreterClosedError(
            f"{name} cannot run this Python: it has no access to {closed}",
            hint="The gateway must then be started by root (it drops root's privileges), and no service can be "
            "registered. For a service, install with a Python that every user can run: /usr/bin/python3 -m venv",
        )
    return f"{name} can run it"


CHECKS: tuple[Check, ...] = (Check(id="account", run=account), Check(id="interpreter", run=interpreter))
