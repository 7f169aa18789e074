"""Checks of the gateway's port and of the path of PostgreSQL's socket."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from mosaic_gateway.engines import EngineStartError, postgres
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.run import listener_for
from mosaic_gateway.installation import EngineName
from mosaic_gateway.process import holder_of
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]


class PlainHttpError(AdviceError):
    """Other machines can connect without encryption."""

    code = "PLAIN_HTTP"


class SocketPathError(PreflightError):
    """There is no directory for the database's socket: every path is too long, or owned by another user."""

    code = "SOCKET_PATH"


def port(target: Target) -> str:
    """Bind the port briefly, unless this gateway has it. Raises `PortInUseError`, `AddressUnusableError`."""
    config = target.config
    holder = holder_of(config.home.gateway_lock) if target.home_fault is None else None
    if holder is not None and holder.facts.get("local_url", config.local_url) == config.local_url:
        return f"this installation's gateway listens on {config.local_url}, or is starting"
    with listener_for(config.home, config.host, config.port):
        return f"port {config.port} on {config.host} is free"


def socket(target: Target) -> str:
    """Find the directory of PostgreSQL's socket, whose path may have at most 107 bytes. Raises `SocketPathError`."""
    home = target.home
    if target.config.engine is EngineName.SERVER:
        raise NotCheckedError("not needed: the database is on a server")
    try:
        directory = postgres.socket_place(home)
    except EngineStartError as error:
        raise SocketPathError(error.message, hint=error.hint) from error
    if directory == home.run:
        return f"in {directory}"
    with suppress(FileNotFoundError):
        status = directory.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise SocketPathError(
                f"{home.run} is too long for a socket, and the alternative {directory} is not a directory that only "
                "this user can access",
                hint=f"Remove {directory}, or choose a --home with a shorter path.",
            )
    return f"in {directory}, because the path in the home would be too long"


def exposure(target: Target) -> str:
    """Return who can connect. Raises `PlainHttpError` if passwords would cross a network without encryption."""
    config = target.config
    if config.is_local:
        return "only this machine can connect"
    if config.base_url is not None and config.base_url.startswith("https://"):
        return f"users connect to {config.url}"
    raise PlainHttpError(
        f"the gateway listens on {config.listens_on} without encryption: passwords can be read on the way",
        hint="Put a reverse proxy with HTTPS in front of it, and set --base-url to its address.",
    )


CHECKS: tuple[Check, ...] = (
    Check(id="port", run=port),
    Check(id="exposure", run=exposure),
    Check(id="socket", run=socket),
)
