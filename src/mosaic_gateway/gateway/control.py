"""Starting, stopping and asking after the gateway of a home, from outside its process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from mosaic_gateway.config import Home, instance_id, load_config, process_environment
from mosaic_gateway.errors import BusyError, ExitCode, MosaicError
from mosaic_gateway.gateway.program import Command, Program, command_for, current_program, refuse_other_version
from mosaic_gateway.gateway.ready_pipe import await_line
from mosaic_gateway.gateway.service import Service, registered_service, start_service, stop_service
from mosaic_gateway.gateway.service_notice import forget_failure, read_failure
from mosaic_gateway.gateway.upgrade_mark import check_may_start, refuse_beside_upgrade
from mosaic_gateway.process.account import assume, environment_of, owner_of, popen_identity
from mosaic_gateway.process.command import CommandFailedError
from mosaic_gateway.process.ending import end_holder
from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway.process.logfile import tail_of

__all__ = [
    "GatewayStartError",
    "GatewayState",
    "Launched",
    "StartBusyError",
    "Started",
    "launch",
    "start",
    "state_of",
    "stop",
]

START_LIMIT = 330.0  # seconds; a database may have to recover first
STOP_LIMIT = 60.0  # seconds; more than gateway and engine give themselves
TAIL_LINES = 15
PAUSE = 0.05  # seconds


class GatewayStartError(MosaicError):
    """The gateway's process ended, or said nothing, before it was ready."""

    code = "GATEWAY_START"


class StartBusyError(BusyError):
    """Another process starts the same gateway, or keeps trying to."""

    code = "START_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A gateway that accepts requests at ``url``; ``already`` if it did so before. ``setup_url`` is a secret."""

    url: str
    pid: int
    already: bool
    setup_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """What runs of a home. ``url`` is None while the gateway starts; ``ready`` is what /readyz says.

    ``service`` is the service manager's unit where there is one, and ``under_service`` whether that runs it.
    """

    running: bool
    ready: bool = False
    pid: int | None = None
    supervisor: int | None = None
    url: str | None = None
    local_url: str | None = None
    version: str | None = None
    service: str | None = None
    under_service: bool = False


def start(home: Home, *, timeout: float = START_LIMIT) -> Started:
    """Start the gateway in the background and return when it accepts requests.

    Raises `StartupFailedError` with the gateway's own reason, `GatewayStartError` and HomeOwnerError; then
    nothing runs.
    """
    instance_id(home)
    owner_of(home.path)  # the supervisor, which asks this as well, has nobody to tell
    state = state_of(home, ask=False)
    if state.running and state.url is not None and state.pid is not None:
        return Started(url=state.url, pid=state.pid, already=True)
    refuse_beside_upgrade(home)
    check_may_start(home, upgrading=False)
    service = registered_service(home)
    if service is not None:
        return _start_service(home, service, timeout)
    port = load_config(home, flags={}, environ=process_environment()).port
    program = current_program(home)
    if program is None:
        refuse_other_version(home)
    with launch(home, program, port=port) as launched:
        return launched.go(timeout)


def launch(
    home: Home, program: Program | None, *, port: int, issue_link: bool = False, tethered: bool = False
) -> Launched:
    """Load *program* (None: this package) as a gateway that waits for `Launched.go` before it touches anything.

    It ends by itself when this process does. *port* is the one that it will listen on. With *issue_link* it
    gives back a set-up link if there is no admin yet and no earlier link that still works. *tethered*: it ends when
    we do, or let go of it, unless `Launched.untie` was called.
    Raises `ProgramMissingError`, `UnsafeProgramError`.
    """
    with command_for(home, program, owner_of(home.path), port=port) as command:
        return _launch(home, command, issue_link=issue_link, tethered=tethered)


def _launch(home: Home, command: Command, *, issue_link: bool, tethered: bool) -> Launched:
    ready, ready_writer = os.pipe()
    go_reader, go = os.pipe()
    tether_reader, tether = os.pipe()
    inherited = [ready_writer, go_reader, *([tether_reader] if tethered else [])]
    try:
        argv = [*command.words, "supervise", "--home", str(home.path)]
        argv += ["--ready-fd", str(ready_writer), "--go-fd", str(go_reader)]
        argv += ["--tether-fd", str(tether_reader)] if tethered else []
        argv += ["--issue-link"] if issue_link else []
        supervisor = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=(*inherited, *command.descriptors), cwd="/", umask=0o077,
            start_new_session=True, env={**process_environment(), **environment_of(command.account)},
            **popen_identity(command.account),
        )  # fmt: skip
    except BaseException:
        for descriptor in (ready, go, tether):
            os.close(descriptor)
        raise
    finally:
        for descriptor in (ready_writer, go_reader, tether_reader):
            os.close(descriptor)
    return Launched(home, supervisor, _Pipes(ready, go, tether), _size(home.gateway_log))


@dataclass(frozen=True, slots=True)
class _Pipes:
    """Our ends: what it says when it is ready, what lets it go, what it is tied to."""

    ready: int
    go: int
    tether: int


class Launched:
    """A gateway that is loaded and waits; a context manager that ends it unless it went."""

    def __init__(self, home: Home, supervisor: subprocess.Popen[bytes], pipes: _Pipes, log_size: int) -> None:
        self._home = home
        self._log_size = log_size
        self._supervisor = supervisor
        self._pipes = pipes
        self._went = False
        self._closed = False

    def go(self, timeout: float = START_LIMIT) -> Started:
        """Let it start and return when it accepts requests; raises as `start` does, and then nothing runs."""
        deadline = time.monotonic() + timeout
        with suppress(BrokenPipeError):  # it died: the other pipe says how
            os.write(self._pipes.go, b"g")
        # Whoever starts a gateway asks it next; what asking needs is loaded while there is nothing to do.
        import mosaic_gateway.gateway.asking  # noqa: F401 - see above

        try:
            line = await_line(self._pipes.ready, timeout)
        except TimeoutError:
            raise self._failed(f"the gateway was not ready within {timeout:g} s and was stopped") from None
        if line is None:
            if self._supervisor.wait(STOP_LIMIT) == ExitCode.BUSY:
                return _await_other(self._home, deadline)
            raise self._failed("the gateway ended before it was ready")
        self._went = True
        return Started(url=str(line["url"]), pid=int(line["pid"]), already=False, setup_url=line.get("setup_url"))

    def untie(self) -> None:
        """Let a tethered gateway stay when we end."""
        with suppress(BrokenPipeError):  # it has ended meanwhile, which others will notice
            os.write(self._pipes.tether, b"c")

    def _failed(self, message: str) -> GatewayStartError:
        return _start_failed(self._home, message, self._log_size)

    def close(self) -> None:
        """End it if it is not to stay, and let go of it; harmless the second time."""
        if self._closed:
            return
        for descriptor in (self._pipes.go, self._pipes.ready, self._pipes.tether):
            os.close(descriptor)
        self._closed = True
        if not self._went:
            _end(self._supervisor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start_service(home: Home, service: Service, timeout: float) -> Started:
    """Have the service manager start it; after a failure it is made to give up, too."""
    deadline = time.monotonic() + timeout
    log_size = _size(home.gateway_log)
    with assume(owner_of(home.path)):
        forget_failure(home)
    try:
        start_service(service, timeout=timeout)
        while time.monotonic() < deadline:
            state = state_of(home, ask=False)
            if state.url is not None and state.pid is not None:
                return Started(url=state.url, pid=state.pid, already=False)
            time.sleep(PAUSE)
        reason = f"it was not ready within {timeout:g} s"
    except CommandFailedError as error:
        reason = error.message
    with suppress(CommandFailedError):
        stop_service(service)
    failure = read_failure(home)
    if failure is not None:
        raise failure
    raise _start_failed(home, f"{service.described} did not start: {reason}", log_size)


def _start_failed(home: Home, message: str, log_size: int) -> GatewayStartError:
    tail = "\n".join(tail_of(home.gateway_log, TAIL_LINES, since=log_size))
    return GatewayStartError(
        f"{message}. The end of {home.gateway_log}:\n{tail}" if tail else f"{message} and logged nothing",
        hint="Look for the cause in the log, then run mosaic-gateway start again.",
    )


def _await_other(home: Home, deadline: float) -> Started:
    """Return the gateway that another process starts just now. Raises `StartBusyError` if that takes too long."""
    while (holder := holder_of(home.supervisor_lock)) is not None and time.monotonic() < deadline:
        state = state_of(home, ask=False)
        if state.url is not None and state.pid is not None:
            return Started(url=state.url, pid=state.pid, already=True)
        time.sleep(PAUSE)
    who = holder.pid if holder else "gone"
    raise StartBusyError(
        f"another start of the gateway in {home.path} (process {who}) did not come to its end",
        hint="Look at mosaic-gateway status and logs, then run mosaic-gateway start again.",
        details={"pid": holder.pid} if holder else {},
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        supervisor.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        supervisor.wait(STOP_LIMIT)


def stop(home: Home, *, timeout: float = STOP_LIMIT) -> int | None:
    """Stop the gateway of *home*, in the background or in the foreground, and wait for its end.

    Returns the pid of what was stopped, None where nothing ran. Raises `StopTimeoutError`.
    """
    before = state_of(home, ask=False).pid
    service = registered_service(home)
    if service is not None:
        with suppress(CommandFailedError):  # not loaded, or the manager is not there: what runs ends all the same
            stop_service(service)
    supervisor = end_holder(home.supervisor_lock, timeout=timeout)
    gateway = end_holder(home.gateway_lock, timeout=timeout)
    return supervisor or gateway or before


def state_of(home: Home, *, ask: bool = True) -> GatewayState:
    """Return what runs; with *ask*, /readyz is asked as well. Writes nothing."""
    supervisor = holder_of(home.supervisor_lock)
    gateway = holder_of(home.gateway_lock)
    service = registered_service(home)
    named = service.described if service is not None else None
    if gateway is None:
        return GatewayState(running=False, supervisor=supervisor.pid if supervisor else None, service=named)
    local_url = gateway.facts.get("local_url")
    return GatewayState(
        running=True,
        ready=bool(ask and local_url and _is_ready(str(local_url))),
        pid=gateway.pid,
        supervisor=supervisor.pid if supervisor else None,
        url=gateway.facts.get("url"),
        local_url=local_url,
        version=gateway.facts.get("version"),
        service=named,
        under_service=bool(gateway.facts.get("service")),
    )


def _is_ready(url: str) -> bool:
    from mosaic_gateway.gateway.asking import NoAnswerError, ask

    try:
        return ask(url, "/readyz")[0] == HTTPStatus.OK
    except NoAnswerError:
        return False
