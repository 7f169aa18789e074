"""Start, stop and state of the gateway of a home, from outside its process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mosaic_gateway.config import Config, load_config
from mosaic_gateway.errors import BusyError, InternalError, MosaicError, PreflightError
from mosaic_gateway.fs.files import open_regular
from mosaic_gateway.fs.record_fields import VERSION, Field, RecordError, boolean, checked_record, matching
from mosaic_gateway.gateway.control.program import Program, current_program, program_words, refuse_other_version
from mosaic_gateway.gateway.control.ready_pipe import SUPERVISOR_BUSY, StartupFailedError, await_line
from mosaic_gateway.gateway.control.service import registered_service, start_service, stop_service
from mosaic_gateway.gateway.control.service_notice import forget_failure, read_failure
from mosaic_gateway.gateway.run.listener import listener_for
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.layout_check import check_layout, check_run_directory
from mosaic_gateway.installation.receipt import instance_id
from mosaic_gateway.installation.service_record import Service
from mosaic_gateway.installation.upgrade_state import check_may_start, refuse_beside_upgrade
from mosaic_gateway.process.account import check_owner
from mosaic_gateway.process.command import CommandFailedError
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.process.file_lock import FileLockHolder, holder_of
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway.process.ports import is_privileged
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway.process.termination import end_holder

__all__ = [
    "GatewayStartError",
    "GatewayState",
    "Launched",
    "NotReadyError",
    "StartBusyError",
    "Started",
    "launch",
    "start",
    "state_of",
    "stop",
    "supervisor_words",
]

START_LIMIT = 330.0  # seconds; crash recovery of the database may come first
STOP_LIMIT = 60.0  # seconds; above the limits of gateway and engine themselves
TAIL_LINES = 15
PAUSE = 0.05  # seconds between polls
_ADDRESS = matching(re.compile(r"https?://[\x21-\x7e]+"), "a web address")
#: What a gateway that accepts requests writes into its lock file (`lifecycle`).
NOTE = {
    "url": Field(_ADDRESS, None),
    "local_url": Field(_ADDRESS, None),
    "version": Field(matching(VERSION, "a version"), None),
    "service": Field(boolean, default=False),
}


class NotReadyError(PreflightError):
    """The gateway is not running or not ready."""

    code = "NOT_READY"


class GatewayStartError(MosaicError):
    """The gateway's process exited, or timed out, before it was ready."""

    code = "GATEWAY_START"


class StartBusyError(BusyError):
    """Another process is starting the same gateway and has not finished."""

    code = "START_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A gateway that accepts requests at ``url``; ``already``: it ran before the call. ``setup_url`` is a secret."""

    url: str
    pid: int
    already: bool
    setup_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayState:
    """State of a home's gateway. ``url`` is None while it starts; ``ready``: /readyz returned 200.

    ``service`` is the registered service unit, if any; ``under_service`` is whether that unit runs the gateway.
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

    Raises `StartupFailedError` with the gateway's own error, `GatewayStartError`, HomeOwnerError and HomeLayoutError;
    after an error no gateway runs.
    """
    instance_id(home)
    check_owner(home.path)
    check_layout(home)
    state = state_of(home, ask=False)
    if state.running and state.url is not None and state.pid is not None:
        return Started(url=state.url, pid=state.pid, already=True)
    refuse_beside_upgrade(home)
    check_may_start(home, upgrading=False)
    service = registered_service(home)
    if service is not None:
        return _start_service(home, service, timeout)
    config = load_config(home, flags={}, environ=process_environment())
    program = current_program(home)
    if program is None:
        refuse_other_version(home)
    with launch(config, program) as launched:
        return launched.go(timeout)


def launch(config: Config, program: Program | None, *, issue_link: bool = False, tethered: bool = False) -> Launched:
    """Load *program* (None: this package) as a gateway that waits for `Launched.go` before it changes anything.

    It exits if this process exits before that. Root's process binds a port that only root may bind.
    With *issue_link* it returns a set-up link if there is no admin yet and no valid earlier link.
    *tethered*: it exits when this process exits or closes it, unless `Launched.detach` was called.
    Raises `ProgramMissingError`, and the errors of binding.
    """
    home, words = config.home, program_words(program)
    if words is None and home.broker is None:
        raise InternalError("the interpreter of the gateway's program cannot be run by this user")
    bound = home.broker is not None and is_privileged(config.port)
    listener = [listener_for(home, config.host, config.port).detach()] if bound else []
    ready, ready_writer = os.pipe()
    go_reader, go = os.pipe()
    tether_reader, tether = os.pipe()
    inherited = {"ready-fd": ready_writer, "go-fd": go_reader}
    inherited |= {"tether-fd": tether_reader} if tethered else {}
    inherited |= {"listen-fd": listener[0]} if listener else {}
    try:
        process = None
        if words is not None:
            process = _start_supervisor(home, words, inherited, issue_link=issue_link)
        elif home.broker is not None:
            if home.programs is None:  # root executes no program in a home, only its own package
                refuse_other_version(home)
            name = program.directory.name if program is not None else None
            values = {"descriptors": list(inherited), "issue_link": issue_link, "name": name}
            home.broker.ask(Request.LAUNCH, values, list(inherited.values()))
    except BaseException:
        for descriptor in (ready, go, tether):
            os.close(descriptor)
        raise
    finally:
        for descriptor in (ready_writer, go_reader, tether_reader, *listener):
            os.close(descriptor)
    return Launched(home, process, _Pipes(ready, go, tether), _size(home.gateway_log))


def supervisor_words(home: Home, inherited: Mapping[str, int], *, issue_link: bool) -> list[str]:
    """Return the arguments that run a program as a supervisor, given its *inherited* descriptors by option name."""
    options = [word for name, descriptor in inherited.items() for word in (f"--{name}", str(descriptor))]
    return ["supervise", "--home", str(home.path), *options, *(["--issue-link"] if issue_link else [])]


def _start_supervisor(
    home: Home, words: Sequence[str], inherited: Mapping[str, int], *, issue_link: bool
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*words, *supervisor_words(home, inherited, issue_link=issue_link)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=tuple(inherited.values()), cwd="/", umask=0o077, start_new_session=True,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Pipes:
    """This process's ends of the pipes: the readiness line, the signal to start, the tether."""

    ready: int
    go: int
    tether: int


class Launched:
    """A gateway that is loaded and waits for `go`; as a context manager, it stops the gateway unless that started."""

    def __init__(self, home: Home, supervisor: subprocess.Popen[bytes] | None, pipes: _Pipes, log_size: int) -> None:
        """*supervisor* is None if root's process started it."""
        self._home = home
        self._log_size = log_size
        self._supervisor = supervisor
        self._pipes = pipes
        self._accepted = False
        self._closed = False

    def go(self, timeout: float = START_LIMIT) -> Started:
        """Let the gateway start and return when it accepts requests. Raises as `start` does; then no gateway runs."""
        deadline = time.monotonic() + timeout
        with suppress(BrokenPipeError):  # it exited: await_line reports how
            os.write(self._pipes.go, b"g")
        # The caller sends it requests next; the client is imported while there is nothing else to do.
        import mosaic_gateway.gateway.local_client  # noqa: F401 - see above

        try:
            line = await_line(self._pipes.ready, timeout)
        except TimeoutError:
            raise self._failed(f"the gateway was not ready within {timeout:g} s and was stopped") from None
        except StartupFailedError as error:
            if error.code == SUPERVISOR_BUSY:
                return _await_other(self._home, deadline)
            raise
        if line is None:
            raise self._failed("the gateway exited before it was ready")
        self._accepted = True
        return Started(url=str(line["url"]), pid=int(line["pid"]), already=False, setup_url=line.get("setup_url"))

    def detach(self) -> None:
        """Let a tethered gateway go on when this process exits."""
        with suppress(BrokenPipeError):  # it has exited; other checks report that
            os.write(self._pipes.tether, b"c")

    def _failed(self, message: str) -> GatewayStartError:
        return _start_failed(self._home, message, self._log_size)

    def close(self) -> None:
        """Close the pipes, and stop the gateway unless it started; the second call does nothing."""
        if self._closed:
            return
        for descriptor in (self._pipes.go, self._pipes.ready, self._pipes.tether):
            os.close(descriptor)
        self._closed = True
        if not self._accepted:
            self._stop()

    def _stop(self) -> None:
        if self._supervisor is None:
            end_holder(self._home.supervisor_lock, timeout=STOP_LIMIT)
            return
        with suppress(ProcessLookupError):
            self._supervisor.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(STOP_LIMIT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _start_service(home: Home, service: Service, timeout: float) -> Started:
    """Start the gateway through the service manager; after a failure, stop the unit so that it is not retried."""
    deadline = time.monotonic() + timeout
    log_size = _size(home.gateway_log)
    forget_failure(home)
    try:
        start_service(home, service, timeout=timeout)
        while time.monotonic() < deadline:
            state = state_of(home, ask=False)
            if state.url is not None and state.pid is not None:
                return Started(url=state.url, pid=state.pid, already=False)
            time.sleep(PAUSE)
        reason = f"it was not ready within {timeout:g} s"
    except MosaicError as error:  # compared by code: root's process may have run the command
        if error.code != CommandFailedError.code:
            raise
        reason = error.message
    with suppress(MosaicError):
        stop_service(home, service)
    failure = read_failure(home)
    if failure is not None:
        raise failure
    raise _start_failed(home, f"{service.described} did not start: {reason}", log_size)


def _start_failed(home: Home, message: str, log_size: int) -> GatewayStartError:
    tail = "\n".join(tail_of(home.gateway_log, TAIL_LINES, since=log_size))
    return GatewayStartError(
        f"{message}. The end of {home.gateway_log}:\n{tail}" if tail else f"{message} and logged nothing",
        hint="Fix the cause reported in the log, then run " + command("start") + " again.",
    )


def _await_other(home: Home, deadline: float) -> Started:
    """Wait for the gateway that another process is starting. Raises `StartBusyError` after *deadline*."""
    while (holder := holder_of(home.supervisor_lock)) is not None and time.monotonic() < deadline:
        state = state_of(home, ask=False)
        if state.url is not None and state.pid is not None:
            return Started(url=state.url, pid=state.pid, already=True)
        time.sleep(PAUSE)
    pid = holder.pid if holder else "exited"
    raise StartBusyError(
        f"another start of the gateway in {home.path} (process {pid}) did not complete",
        hint="Check " + command("status") + " and " + command("logs") + ", then run " + command("start") + " again.",
        details={"pid": holder.pid} if holder else {},
    )


def _size(path: Path) -> int:
    try:
        with open_regular(path) as stream:
            return os.fstat(stream.fileno()).st_size
    except OSError:
        return 0


def stop(home: Home, *, timeout: float = STOP_LIMIT) -> int | None:
    """Stop the gateway of *home*, whether it runs in the background or the foreground, and wait until it has exited.

    Returns the pid of the stopped process, None if none ran. Raises `StopTimeoutError`, `HomeLayoutError`.
    """
    check_run_directory(home)
    before = state_of(home, ask=False).pid
    service = registered_service(home)
    if service is not None:
        with suppress(MosaicError):  # not loaded, or no manager: the processes are stopped below anyway
            stop_service(home, service)
    broker = home.broker
    end_as_root = None if broker is None else lambda: broker.ask(Request.END_SUPERVISOR)
    supervisor = end_holder(home.supervisor_lock, timeout=timeout, end_as_root=end_as_root)
    gateway = end_holder(home.gateway_lock, timeout=timeout)
    return supervisor or gateway or before


def state_of(home: Home, *, ask: bool = True) -> GatewayState:
    """Return the state of the gateway; with *ask*, request /readyz too. Writes nothing."""
    supervisor = holder_of(home.supervisor_lock)
    gateway = holder_of(home.gateway_lock)
    service = registered_service(home)
    unit = service.described if service is not None else None
    if gateway is None:
        return GatewayState(running=False, supervisor=supervisor.pid if supervisor else None, service=unit)
    note = _note_of(home, gateway)
    return GatewayState(
        running=True,
        ready=bool(ask and note["local_url"] and _is_ready(note["local_url"])),
        pid=gateway.pid,
        supervisor=supervisor.pid if supervisor else None,
        url=note["url"],
        local_url=note["local_url"],
        version=note["version"],
        service=unit,
        under_service=note["service"],
    )


def _note_of(home: Home, gateway: FileLockHolder) -> dict[str, Any]:
    """Return what *gateway* wrote into its lock file; the values of a starting gateway if that is invalid."""
    try:
        return checked_record(home.gateway_lock, gateway.facts, NOTE)
    except RecordError:
        return checked_record(home.gateway_lock, {}, NOTE)


def _is_ready(url: str) -> bool:
    from mosaic_gateway.gateway.local_client import NoAnswerError, ask

    try:
        return ask(url, "/readyz")[0] == HTTPStatus.OK
    except NoAnswerError:
        return False
