"""Which service manager a home gets, if any; and whether it can confine what it runs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.config import default_home
from mosaic_gateway.gateway.control.service import Manager, Service
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.access import interpreter_closed_to
from mosaic_gateway.process.account import Account
from mosaic_gateway.process.root_requests import Broker, Request

__all__ = [
    "AvailableManager",
    "available_manager",
    "can_confine",
    "lingers",
    "machine_manager",
    "unit_name",
]

ASK_LIMIT = 10.0  # seconds
#: What ``systemctl is-system-running`` says where there is a systemd that takes orders.
RUNNING = {"running", "degraded", "starting", "initializing", "maintenance", "stopping"}
EXIT_NAMESPACE = 226  # systemd.exec(5): the namespaces for the confinement could not be made
CONFINED = ("ProtectSystem=strict", "PrivateTmp=yes")


@dataclass(frozen=True, slots=True)
class AvailableManager:
    """A manager, or None and the reason."""

    manager: Manager | None
    reason: str = ""


def available_manager(broker: Broker | None) -> AvailableManager:
    """Return the manager that answers this user; *broker* asks for the machine's, where root has called the verb."""
    if broker is not None:
        answer = broker.ask(Request.SERVICE_MANAGER)[0]
        manager = answer["manager"]
        return AvailableManager(Manager(manager) if manager is not None else None, str(answer["reason"]))
    return _launchd(root=False) if sys.platform == "darwin" else _systemd(root=False)


def machine_manager(account: Account) -> AvailableManager:
    """Return the machine's manager, if it can run a gateway as *account*; asked by root."""
    closed = interpreter_closed_to(account)
    if closed is not None:
        return AvailableManager(None, f"{account.name} may not use the interpreter: {closed} is closed to it")
    return _launchd(root=True) if sys.platform == "darwin" else _systemd(root=True)


def _launchd(*, root: bool) -> AvailableManager:
    if shutil.which("launchctl") is None:
        return AvailableManager(None, "there is no launchctl")
    return AvailableManager(Manager.LAUNCHD if root else Manager.LAUNCHD_AGENT)


def _systemd(*, root: bool) -> AvailableManager:
    if shutil.which("systemctl") is None:
        return AvailableManager(None, "this machine has no systemd")
    words = ("systemctl", "is-system-running") if root else ("systemctl", "--user", "is-system-running")
    try:
        # Not an error where it says that units have failed: that is none of our business.
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return AvailableManager(None, "systemd does not answer")
    if done.stdout.strip() not in RUNNING:
        return AvailableManager(
            None, "this machine was not started by systemd" if root else "this user has no running systemd"
        )
    return AvailableManager(Manager.SYSTEMD if root else Manager.SYSTEMD_USER)


def can_confine(service: Service, home: Home) -> bool:
    """Return whether the manager can make the namespaces that keep a unit to its home: tried with ``true``."""
    if not service.is_systemd or shutil.which("systemd-run") is None:
        return service.is_systemd
    words = ["systemd-run", *service.systemctl[1:], "--wait", "--collect", "--quiet"]
    settings = [*CONFINED, f"ReadWritePaths={home.path}"]
    try:
        done = subprocess.run(
            [*words, *(f"--property={setting}" for setting in settings), "true"],
            capture_output=True, timeout=ASK_LIMIT, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.returncode != EXIT_NAMESPACE


def unit_name(manager: Manager, home: Home, identity: str) -> str:
    """Return the unit's name: the plain one for the usual home, with a part of *identity* (hexadecimal) for others."""
    usual = home.path == default_home({})
    if manager in {Manager.LAUNCHD, Manager.LAUNCHD_AGENT}:
        return "org.mosaic-gateway" if usual else f"org.mosaic-gateway.{identity[:8]}"
    return "mosaic-gateway.service" if usual else f"mosaic-gateway-{identity[:8]}.service"


def lingers() -> bool:
    """Return whether this user's services run without a session (loginctl(1), enable-linger)."""
    return Path("/var/lib/systemd/linger", pwd.getpwuid(os.geteuid()).pw_name).exists()
