"""Selection of the service manager for a home, and detection of its sandboxing support."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.config import default_home
from mosaic_gateway.installation import Home, Manager, Service
from mosaic_gateway.process import Account, Broker, Request, interpreter_closed_to

__all__ = [
    "AvailableManager",
    "available_manager",
    "can_confine",
    "lingers",
    "machine_manager",
    "unit_name",
]

ASK_LIMIT = 10.0  # seconds
#: States of ``systemctl is-system-running`` in which systemd accepts commands.
RUNNING = {"running", "degraded", "starting", "initializing", "maintenance", "stopping"}
EXIT_NAMESPACE = 226  # systemd.exec(5): the namespaces for the sandbox could not be set up
CONFINED = ("ProtectSystem=strict", "PrivateTmp=yes")


@dataclass(frozen=True, slots=True)
class AvailableManager:
    """A service manager, or None and the reason why there is none."""

    manager: Manager | None
    reason: str = ""


def available_manager(broker: Broker | None) -> AvailableManager:
    """Return the service manager available to this user, or with *broker* (verb called by root) the system's."""
    if broker is not None:
        answer = broker.ask(Request.SERVICE_MANAGER)[0]
        manager = answer["manager"]
        return AvailableManager(Manager(manager) if manager is not None else None, str(answer["reason"]))
    return _launchd(root=False) if sys.platform == "darwin" else _systemd(root=False)


def machine_manager(account: Account) -> AvailableManager:
    """Return the system's service manager, if it can run a gateway as *account*; called by root."""
    closed = interpreter_closed_to(account)
    if closed is not None:
        return AvailableManager(None, f"{account.name} has no permission to run the interpreter: {closed}")
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
        # The exit code is ignored: it is not 0 if any unit of the machine has failed.
        done = subprocess.run(words, capture_output=True, text=True, timeout=ASK_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return AvailableManager(None, "systemd does not answer")
    if done.stdout.strip() not in RUNNING:
        return AvailableManager(
            None, "this machine was not started by systemd" if root else "this user has no running systemd"
        )
    return AvailableManager(Manager.SYSTEMD if root else Manager.SYSTEMD_USER)


def can_confine(service: Service, home: Home) -> bool:
    """Return whether systemd can set up the namespaces that sandbox a unit, by running ``true`` in such a unit."""
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
    """Return the unit's name; for a home other than the default it includes 8 digits of *identity* (hexadecimal)."""
    is_default = home.path == default_home({})
    if manager in {Manager.LAUNCHD, Manager.LAUNCHD_AGENT}:
        return "org.mosaic-gateway" if is_default else f"org.mosaic-gateway.{identity[:8]}"
    return "mosaic-gateway.service" if is_default else f"mosaic-gateway-{identity[:8]}.service"


def lingers() -> bool:
    """Return whether this user's services run without a session (loginctl(1), enable-linger)."""
    return Path("/var/lib/systemd/linger", pwd.getpwuid(os.geteuid()).pw_name).exists()
