"""The account that an installation of root's belongs to: what root's process has found out about it."""

from __future__ import annotations

from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.preflight.target import Subject

__all__ = ["CHECKS"]


class InterpreterClosedError(AdviceError):
    """The service account cannot run the interpreter that the package is installed for."""

    code = "INTERPRETER_CLOSED"


def account(subject: Subject) -> str:
    """Say to whom the home belongs, or will. Root's process has checked that the account may enter it."""
    broker = subject.config.home.broker
    name = broker.facts.get("account") if broker is not None else None
    if broker is None or name is None:
        return "the home belongs to this user"
    return f"the home belongs to {name}{', which is to be created' if broker.facts.get('account_to_make') else ''}"


def interpreter(subject: Subject) -> str:
    """Say whether the account can run the interpreter itself. Raises `InterpreterClosedError`."""
    broker = subject.config.home.broker
    name = broker.facts.get("account") if broker is not None else None
    if broker is None or name is None:
        raise NotCheckedError("not needed: it runs as this user")
    closed = broker.facts.get("interpreter_closed")
    if closed is not None:
        raise InterpreterClosedError(
            f"{name} may not use this Python: {closed} is closed to it",
            hint="Root then starts the gateway, which gives root up, and no service can be registered. "
            "For a service, install with the system's Python: python3 -m venv /opt/mosaic-gateway",
        )
    return f"{name} can run it"


CHECKS: tuple[Check[Subject], ...] = (Check(id="account", run=account), Check(id="interpreter", run=interpreter))
