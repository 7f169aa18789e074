"""Unit files: their values, the mark that identifies a generated file and its changes, and the texts. Pure.

For systemd (systemd.service(5), systemd.exec(5)) the sandboxing settings (`confinement`) need namespaces. A system that
cannot create them (some containers) would not start the unit, so they are omitted if a trial failed. A user unit
contains only settings that need no privileges.

launchd (launchd.plist(5)) supports neither readiness notification nor sandboxing: readiness is read from the gateway
itself, and the job only sets the umask.
"""

from __future__ import annotations

import hashlib
import plistlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.gateway.control import home_line
from mosaic_gateway.gateway.run import DESCRIPTORS
from mosaic_gateway.installation import Home, Manager, Service

__all__ = ["UnitFacts", "confinement", "is_below_homes", "is_unchanged", "launchd_job", "mark", "systemd_unit"]

MARK = re.compile(r"^# Written by mosaic-gateway, sha256 ([0-9a-f]{64})$", re.MULTILINE)
#: Exit codes that a restart cannot change: usage errors, and data that this version refuses.
NO_RESTART = "2 7"
#: Home directories of users, hidden from a unit that needs nothing below them.
HOMES = ("/home", "/root", "/run/user")
ALWAYS = (
    "NoNewPrivileges=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictNamespaces=yes",
    "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
)
MACHINE = (
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectClock=yes",
)
HEADER = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFacts:
    """The values of a unit.

    ``program`` is the gateway's command, ``interpreter`` the Python that runs it, ``account`` the user of a system
    unit (None in a user unit). ``waits_for_network``: the database is on another machine. ``reads_homes``: programs
    that the gateway starts or loads are below home directories of users. ``privileged_port``: the port is below 1024.
    ``outside``: the directory of the database's socket, None if it is in the home.
    """

    service: Service
    home: Home
    program: Path
    interpreter: Path
    account: str | None
    waits_for_network: bool = False
    privileged_port: bool = False
    outside: Path | None = None
    reads_homes: bool = False


def mark(body: str, home: Home, advice: str) -> str:
    """Return *body* with a header: the SHA-256 of all following lines, the home, and *advice*."""
    rest = f"{home_line(home)}\n# {advice}\n{body}"
    return f"# Written by mosaic-gateway, sha256 {hashlib.sha256(rest.encode()).hexdigest()}\n{rest}"


def is_unchanged(text: str) -> bool:
    """Return whether *text* is a marked file that was not edited, written by this or another version."""
    match = MARK.search(text)
    return match is not None and hashlib.sha256(text[match.end() + 1 :].encode()).hexdigest() == match[1]


def systemd_unit(facts: UnitFacts) -> str:
    """Return the unit file."""
    user = facts.service.manager is Manager.SYSTEMD_USER
    command = f"{' '.join(facts.service.systemctl)} edit {facts.service.name}"
    hint = f"Put changes into a drop-in, which is never overwritten: {command}"
    sections = {
        "Unit": list(_unit(facts)),
        "Service": list(_service(facts)),
        "Install": [f"WantedBy={'default.target' if user else 'multi-user.target'}"],
    }
    body = "\n".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items())
    return mark(body, facts.home, hint)


def _unit(facts: UnitFacts) -> Iterator[str]:
    yield f"Description=mosaic-gateway in {_text(facts.home.path)}"
    if facts.account is not None:
        if facts.waits_for_network:
            yield "Wants=network-online.target"
        yield f"After={'network-online.target' if facts.waits_for_network else 'network.target'}"
        yield f"RequiresMountsFor={_quoted(facts.home.path)}"
    yield "StartLimitIntervalSec=0"


def _service(facts: UnitFacts) -> Iterator[str]:
    home = _quoted(facts.home.path)
    yield "Type=notify"
    yield "NotifyAccess=main"
    yield f"ExecStart={_quoted(facts.program)} serve --service --home {home.replace('$', '$$')}"
    if facts.account is not None:
        yield f"User={facts.account}"
    yield "WorkingDirectory=/"
    yield "UMask=0077"
    # The gateway raises its soft limit to the hard one, up to this number.
    yield f"LimitNOFILE={DESCRIPTORS}"
    yield "Restart=on-failure"
    yield "RestartSec=5"
    yield f"RestartPreventExitStatus={NO_RESTART}"
    # WAL recovery and migrations can take any time; the gateway itself stops within a minute.
    yield "TimeoutStartSec=infinity"
    yield "TimeoutStopSec=60"
    # The gateway notifies systemd as long as it responds; a hung one is restarted.
    yield "WatchdogSec=60"
    # The gateway stops its database; remaining processes are killed.
    yield "KillMode=mixed"
    yield "OOMPolicy=continue"
    yield from ALWAYS
    if facts.account is not None:
        capabilities = "CAP_NET_BIND_SERVICE" if facts.privileged_port else ""
        yield f"CapabilityBoundingSet={capabilities}"
        if capabilities:
            yield f"AmbientCapabilities={capabilities}"
    if facts.service.confined:
        yield from confinement(facts)


def confinement(facts: UnitFacts) -> Iterator[str]:
    """Yield the settings that restrict the unit to its home."""
    yield "ProtectSystem=strict"
    yield f"ReadWritePaths={_quoted(facts.home.path)}"
    if facts.outside is None:
        yield "PrivateTmp=yes"
    else:  # other processes must be able to reach the socket
        yield f"ReadWritePaths={_quoted(facts.outside)}"
    if facts.account is not None:
        needed = (facts.home.path, facts.interpreter, facts.program)
        yield f"ProtectHome={'read-only' if facts.reads_homes or is_below_homes(*needed) else 'yes'}"
        yield from MACHINE


def is_below_homes(*paths: Path) -> bool:
    """Return whether one of *paths* is below the home directories of users."""
    return any(str(path).startswith(f"{directory}/") for path in paths for directory in HOMES)


def _quoted(path: Path) -> str:
    """Return *path* quoted as one word (systemd.syntax(7)), with percent signs escaped."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'.replace("%", "%%")


def _text(path: Path) -> str:
    return " ".join(str(path).split()).replace("\\", "\\\\").replace("%", "%%")


def launchd_job(facts: UnitFacts) -> str:
    """Return the property list; its marks are in a comment, one per line."""
    job: dict[str, Any] = {
        "Label": facts.service.name,
        "ProgramArguments": [str(facts.program), "serve", "--service", "--home", str(facts.home.path)],
        "WorkingDirectory": "/",
        "RunAtLoad": True,
        # Restart it after a failure, but not after a stop.
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 5,
        "ExitTimeOut": 60,
        "Umask": 0o077,
        "HardResourceLimits": {"NumberOfFiles": DESCRIPTORS},
        "SoftResourceLimits": {"NumberOfFiles": DESCRIPTORS},
        "ProcessType": "Background",
        "StandardOutPath": "/dev/null",
        # The gateway writes its own log file, which is rotated.
        "StandardErrorPath": "/dev/null",
    }
    if facts.account is not None:
        job["UserName"] = facts.account
    body = plistlib.dumps(job).decode().removeprefix(HEADER)
    marked = mark(f"-->\n{body}", facts.home, "If this file is edited, an install does not overwrite it.")
    return f"{HEADER}<!--\n{marked}"
