"""Loading of a gateway's process, which waits until it is let go."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from mosaic_gateway.config import Config
from mosaic_gateway.errors import BusyError, MosaicError
from mosaic_gateway.gateway.control import ready_pipe
from mosaic_gateway.gateway.control.gateway_state import state_of
from mosaic_gateway.gateway.control.program import Program, closed_interpreter, program_words, refuse_other_version
from mosaic_gateway.gateway.run.listener import listener_for
from mosaic_gateway.hint import command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import holder_of
from mosaic_gateway.process.logfile import size_of, tail_of
from mosaic_gateway.process.ports import is_privileged
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway.process.termination import end_holder

__all__ = [
    "PAUSE",
    "START_LIMIT",
    "STOP_LIMIT",
    "GatewayStartError",
    "Launched",
    "StartBusyError",
    "Started",
    "launch",
    "start_failed",
    "supervisor_words",
]

START_LIMIT = 330.0  # seconds; crash recovery of the database may come first
STOP_LIMIT = 60.0  # seconds; above the limits of gateway and engine themselves
TAIL_LINES = 15
PAUSE = 0.05  # seconds between polls


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


def launch(config: Config, program: Program | None, *, issue_link: bool = False, tethered: bool = False) -> Launched:
    """Load *program* (None: this package) as a gateway that waits for `Launched.go` before it changes anything.

    It exits if this process exits before that. Root's process binds a port that only root may bind.
    With *issue_link* it returns a set-up link if there is no admin yet and no valid earlier link.
    *tethered*: it exits when this process exits or closes it, unless `Launched.detach` was called.
    Raises `ProgramMissingError`, and the errors of binding.
    """
    home, words = config.home, program_words(program)
    if words is None and home.broker is None:
        raise closed_interpreter(program)
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
    return Launched(home, process, _Pipes(ready, go, tether), size_of(home.gateway_log))


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
            line = ready_pipe.await_line(self._pipes.ready, timeout)
        except TimeoutError:
            raise self._failed(f"the gateway was not ready within {timeout:g} s and was stopped") from None
        except ready_pipe.StartupFailedError as error:
            if error.code == ready_pipe.SUPERVISOR_BUSY:
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
        return start_failed(self._home, message, self._log_size)

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


def start_failed(home: Home, message: str, log_size: int) -> GatewayStartError:
    """Return the error of a start, with what the gateway has logged beyond the first *log_size* bytes."""
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
