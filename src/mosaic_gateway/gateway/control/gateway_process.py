"""Starting, stopping and asking after the gateway of a home, from outside its process."""

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

from mosaic_gateway.config import Config, instance_id, load_config, process_environment
from mosaic_gateway.errors import BusyError, InternalError, MosaicError
from mosaic_gateway.fs.files import open_regular
from mosaic_gateway.fs.record_fields import VERSION, Field, RecordError, boolean, checked_record, matching
from mosaic_gateway.gateway.control.program import Program, current_program, program_words, refuse_other_version
from mosaic_gateway.gateway.control.ready_pipe import SUPERVISOR_BUSY, StartupFailedError, await_line
from mosaic_gateway.gateway.control.service import Service, registered_service, start_service, stop_service
from mosaic_gateway.gateway.control.service_notice import forget_failure, read_failure
from mosaic_gateway.gateway.run.listener import listener_for
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.layout_check import check_layout, check_run_directory
from mosaic_gateway.installation.upgrade_state import check_may_start, refuse_beside_upgrade
from mosaic_gateway.process.account import check_owner
from mosaic_gateway.process.command import CommandFailedError
from mosaic_gateway.process.file_lock import FileLockHolder, holder_of
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway.process.ports import is_privileged
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway.process.termination import end_holder

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
    "supervisor_words",
]

START_LIMIT = 330.0  # seconds; a database may have to recover first
STOP_LIMIT = 60.0  # seconds; more than gateway and engine give themselves
TAIL_LINES = 15
PAUSE = 0.05  # seconds
_ADDRESS = matching(re.compile(r"https?://[\x21-\x7e]+"), "a web address")
#: What a gateway that accepts requests notes in its lock (`lifecycle`).
NOTE = {
    "url": Field(_ADDRESS, None),
    "local_url": Field(_ADDRESS, None),
    "version": Field(matching(VERSION, "a version"), None),
    "service": Field(boolean, default=False),
}


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

    Raises `StartupFailedError` with the gateway's own reason, `GatewayStartError`, HomeOwnerError and HomeLayoutError;
    then nothing runs.
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
    """Load *program* (None: this package) as a gateway that waits for `Launched.go` before it touches anything.

    It ends by itself when this process does. Where only root may bind its port, root's process does.
    With *issue_link* it gives back a set-up link if there is no admin yet and no earlier link that still works.
    *tethered*: it ends when we do, or let go of it, unless `Launched.untie` was called.
    Raises `ProgramMissingError`, and what binding raises.
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
            if home.programs is None:  # root runs nothing that lies in a home, but its own package in its place
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
    """Return what follows the words of a program to make it a supervisor, given its *inherited* descriptors."""
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
    """Our ends: what it says when it is ready, what lets it go, what it is tied to."""

    ready: int
    go: int
    tether: int


class Launched:
    """A gateway that is loaded and waits; a context manager that ends it unless it went."""

    def __init__(self, home: Home, supervisor: subprocess.Popen[bytes] | None, pipes: _Pipes, log_size: int) -> None:
        """*supervisor* is None where root's process has started it."""
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
            self._end()

    def _end(self) -> None:
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
    """Have the service manager start it; after a failure it is made to give up, too."""
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
    except MosaicError as error:  # by its code: root's process may have run the command
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
        with open_regular(path) as stream:
            return os.fstat(stream.fileno()).st_size
    except OSError:
        return 0


def stop(home: Home, *, timeout: float = STOP_LIMIT) -> int | None:
    """Stop the gateway of *home*, in the background or in the foreground, and wait for its end.

    Returns the pid of what was stopped, None where nothing ran. Raises `StopTimeoutError`, `HomeLayoutError`.
    """
    check_run_directory(home)
    before = state_of(home, ask=False).pid
    service = registered_service(home)
    if service is not None:
        with suppress(MosaicError):  # not loaded, or the manager is not there: what runs ends all the same
            stop_service(home, service)
    broker = home.broker
    end_roots = None if broker is None else lambda: broker.ask(Request.END_SUPERVISOR)
    supervisor = end_holder(home.supervisor_lock, timeout=timeout, end_roots=end_roots)
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
    said = _said(home, gateway)
    return GatewayState(
        running=True,
        ready=bool(ask and said["local_url"] and _is_ready(said["local_url"])),
        pid=gateway.pid,
        supervisor=supervisor.pid if supervisor else None,
        url=said["url"],
        local_url=said["local_url"],
        version=said["version"],
        service=named,
        under_service=said["service"],
    )


def _said(home: Home, gateway: FileLockHolder) -> dict[str, Any]:
    """Return what *gateway* noted of itself, as little as one that is about to start where that cannot be used."""
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
