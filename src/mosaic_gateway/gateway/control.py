"""Starting, stopping and asking after the gateway of a home, from outside its process."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from mosaic_gateway.config import Home, instance_id
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.ready_pipe import await_line
from mosaic_gateway.process.ending import end_holder
from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway.process.logfile import tail_of

__all__ = ["GatewayState", "GatewayStartError", "Started", "start", "state_of", "stop"]

START_LIMIT = 330.0  # seconds; a database may have to recover first
STOP_LIMIT = 60.0  # seconds; more than gateway and engine give themselves
ASK_LIMIT = 5.0  # seconds for one HTTP request
TAIL_LINES = 15


class GatewayStartError(MosaicError):
    """The gateway's process ended, or said nothing, before it was ready."""

    code = "GATEWAY_START"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A gateway that accepts requests at ``url``; ``already`` if it did so before."""

    url: str
    pid: int
    already: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """What runs of a home. ``url`` is None while the gateway starts; ``ready`` is what /readyz says."""

    running: bool
    ready: bool = False
    pid: int | None = None
    supervisor: int | None = None
    url: str | None = None
    local_url: str | None = None
    version: str | None = None


def start(home: Home, *, timeout: float = START_LIMIT) -> Started:
    """Start the gateway in the background and return when it accepts requests.

    Raises `StartupFailedError` with the gateway's own reason, and `GatewayStartError`; then nothing runs.
    """
    instance_id(home)
    state = state_of(home, ask=False)
    if state.running and state.url is not None and state.pid is not None:
        return Started(url=state.url, pid=state.pid, already=True)
    reader, writer = os.pipe()
    try:
        argv = [sys.executable, "-P", "-m", "mosaic_gateway.gateway.supervisor", "--home", str(home.path)]
        supervisor = subprocess.Popen(
            [*argv, "--ready-fd", str(writer)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=(writer,), cwd="/", umask=0o077, start_new_session=True,
        )  # fmt: skip
        os.close(writer)
        return _await_ready(home, supervisor, reader, timeout)
    finally:
        os.close(reader)


def _await_ready(home: Home, supervisor: subprocess.Popen[bytes], reader: int, timeout: float) -> Started:
    try:
        line = await_line(reader, timeout)
    except TimeoutError:
        _end(supervisor)
        raise _start_error(home, f"the gateway was not ready within {timeout:g} s and was stopped") from None
    except BaseException:
        _end(supervisor)
        raise
    if line is None:
        _end(supervisor)
        raise _start_error(home, "the gateway ended before it was ready")
    return Started(url=str(line["url"]), pid=int(line["pid"]), already=False)


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        supervisor.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        supervisor.wait(STOP_LIMIT)


def stop(home: Home, *, timeout: float = STOP_LIMIT) -> int | None:
    """Stop the gateway of *home*, in the background or in the foreground, and wait for its end.

    Returns the pid of what was stopped, None where nothing ran. Raises `StopTimeoutError`.
    """
    supervisor = end_holder(home.supervisor_lock, timeout=timeout)
    gateway = end_holder(home.gateway_lock, timeout=timeout)
    return supervisor or gateway


def state_of(home: Home, *, ask: bool = True) -> GatewayState:
    """Return what runs; with *ask*, /readyz is asked as well. Writes nothing."""
    supervisor = holder_of(home.supervisor_lock)
    gateway = holder_of(home.gateway_lock)
    if gateway is None:
        return GatewayState(running=False, supervisor=supervisor.pid if supervisor else None)
    local_url = gateway.facts.get("local_url")
    return GatewayState(
        running=True,
        ready=bool(ask and local_url and _is_ready(str(local_url))),
        pid=gateway.pid,
        supervisor=supervisor.pid if supervisor else None,
        url=gateway.facts.get("url"),
        local_url=local_url,
        version=gateway.facts.get("version"),
    )


def ask(url: str, path: str, *, body: Any = None, timeout: float = ASK_LIMIT) -> tuple[int, Any]:
    """Send one request to the gateway at *url* (GET, or POST of *body* as JSON); return status and JSON.

    The second value is None where the answer is no JSON. Raises OSError and HTTPException.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=timeout)
    try:
        if body is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    try:
        return response.status, json.loads(content)
    except ValueError:
        return response.status, None


def _is_ready(url: str) -> bool:
    try:
        return ask(url, "/readyz")[0] == http.client.OK
    except (OSError, http.client.HTTPException):
        return False


def _start_error(home: Home, message: str) -> GatewayStartError:
    tail = "\n".join(tail_of(home.gateway_log, TAIL_LINES))
    return GatewayStartError(
        f"{message}. The end of {home.gateway_log}:\n{tail}" if tail else f"{message}; {home.gateway_log} is empty",
        hint="Look for the cause in the log, then run mosaic-gateway start again.",
    )
