"""A verb's worker: the process of a home's owner in which root's command runs, and root's end of it.

Theory of operation. Root's process forks. The child takes a session of its own, keeps no descriptor but three standard
streams and one socket, gives root up for good, ends when root's process does, and runs the whole verb as an ordinary
user's process would. Where the account cannot read the program, everything that the verb needs was loaded before.
The kernel keeps the account's other processes from reading or tracing such a process (PR_SET_DUMPABLE, prctl(2)).

Root's terminal stays with root: the child writes into pipes, whose content root's process passes on, and what a person
has to type is asked by root's process. Over the socket the child sends requests (`root_requests`), each answered before
the next. Signals are passed on; the child's end, by code or signal, is also the end of root's process.
"""

from __future__ import annotations

import io
import os
import re
import select
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.config import process_environment
from mosaic_gateway.errors import InternalError, MosaicError
from mosaic_gateway.gateway.control.program import archive_descriptors
from mosaic_gateway.process.access import unreadable_part
from mosaic_gateway.process.account import Account
from mosaic_gateway.process.channel import BrokerClient, error_message, receive, send
from mosaic_gateway.process.command import follow_parent
from mosaic_gateway.process.interruptions import INTERRUPTIONS, Interruptions
from mosaic_gateway.process.privileges import account_environment, drop_root
from mosaic_gateway.process.root_requests import Reply, Request

__all__ = ["Answerer", "Run", "run_worker"]

CHANNEL = 3  # the socket's descriptor in the worker
#: The one option by which a verb reads what root's standard input has.
READS_INPUT = "--password-stdin"
MOST_SIGNALS = 3  # the last of which kills
CHUNK = 65536
PIPE = 1 << 20  # bytes that a pipe can hold (pipe(7))
MOST_HELD = 1 << 20  # bytes of output that are held
CHANNEL_LIMIT = 30.0  # seconds for the rest of a message, or for its being read
#: What a terminal does more with than to show it: all but new lines, colours, and what `reporter` uses.
CONTROLS = re.compile(rb"\x1b(?!\[[0-9;]*[mK]|\[\?25[lh])|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\xc2[\x80-\x9f]")
CONTROL_LEAD = b"\xc2"  # the first of the two bytes of a control character of ISO 8859, in UTF-8
POLL = 0.05  # seconds, where the system has no descriptor for a process's end

#: Answers one request; raises MosaicError. The descriptors that came with it are closed afterwards.
Answerer = Callable[[Request, Mapping[str, Any], Sequence[int]], Reply]
#: Runs the verb in the worker, with its end of the channel, and returns the exit code.
Run = Callable[[BrokerClient], int]


def run_worker(
    invocation: Invocation,
    account: Account,
    *,
    facts: Mapping[str, Any],
    answer: Answerer,
    run: Run,
    verb: str,
    environ: Mapping[str, str] = MappingProxyType({}),
    quiet: bool = False,
) -> int:
    """Call *run* as *account* in a process of its own and return its exit code; ends as it ends, if by a signal.

    *facts* are what it is told of root's process, *answer* answers its requests, *verb* says what is loaded for it
    where it cannot read the program. Its environment has *environ* besides what `account_environment` gives. With
    *quiet* its output is shown only if it fails.
    """
    if unreadable_part(account) is not None:
        invocation.load(verb)
    ours, theirs = socket.socketpair()
    ours.settimeout(CHANNEL_LIMIT)
    output, error = os.pipe(), os.pipe()
    known = {**facts, **_terminal(), "directory": str(invocation.directory)}
    _flush()
    with Interruptions() as signals:
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _be_worker(
                parent,
                account,
                {**account_environment(process_environment(), account), **environ},
                _Streams(output[1], error[1], theirs.detach(), READS_INPUT in invocation.words),
                known,
                run,
            )
        theirs.close()
        os.close(output[1])
        os.close(error[1])
        shown = _Output(quiet=quiet)
        worker = _Worker(pid)
        with ours, signals.passed_to(worker.send):
            status = _attend(worker, {output[0]: 1, error[0]: 2}, ours, answer, shown)
    code = os.waitstatus_to_exitcode(status)
    if code:
        shown.release()
    if code < 0:
        _end_like(-code)
    return code


@dataclass(frozen=True, slots=True)
class _Streams:
    output: int
    error: int
    channel: int
    reads_input: bool


def _be_worker(
    parent: int,
    account: Account,
    environ: Mapping[str, str],
    streams: _Streams,
    facts: Mapping[str, Any],
    run: Run,
) -> None:
    """Be the worker, in the forked child; does not return."""
    code = 1
    try:
        for number in INTERRUPTIONS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
        os.setsid()
        _take_streams(streams)
        os.chdir("/")
        os.umask(0o077)
        drop_root(account, environ)
        follow_parent(parent, signal.SIGKILL)
        _show_on_terminal(facts)
        code = run(BrokerClient(socket.socket(fileno=CHANNEL), facts))
        _flush()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else code
    except BrokenPipeError:
        code = 1
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where the caller has closed it
            stream.flush()


def _take_streams(streams: _Streams) -> None:
    """Keep three standard streams, the channel and the program's archive, and nothing else.

    Root's terminal is no stream of ours.
    """
    inherited = 0 if streams.reads_input and not os.isatty(0) else os.open(os.devnull, os.O_RDONLY)
    high = [os.dup(descriptor) for descriptor in (inherited, streams.output, streams.error, streams.channel)]
    high = [descriptor if descriptor > CHANNEL else _above(descriptor) for descriptor in high]
    for target, descriptor in enumerate(high):
        os.dup2(descriptor, target)
    archives = archive_descriptors()
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers; some may lie above the limit of today
            if int(name) > CHANNEL and int(name) not in archives:
                with suppress(OSError):
                    os.close(int(name))
    low = CHANNEL + 1
    for high_one in (*sorted(archives), os.sysconf("SC_OPEN_MAX")):
        os.closerange(low, high_one)
        low = high_one + 1


def _above(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, CHANNEL + 1)


def _terminal() -> dict[str, Any]:
    """Return what a worker cannot see for itself: which of our streams are a terminal, and how wide it is."""
    streams = {"input": sys.__stdin__, "output": sys.__stdout__, "error": sys.__stderr__}
    shown = {name: stream is not None and stream.isatty() for name, stream in streams.items()}
    return {"terminal": shown, "columns": shutil.get_terminal_size().columns}


class _Shown(io.TextIOWrapper):
    """A stream whose other end shows what is written on a terminal."""

    def isatty(self) -> bool:
        return True


def _show_on_terminal(facts: Mapping[str, Any]) -> None:
    os.environ["COLUMNS"] = str(facts.get("columns", 80))
    terminal = facts.get("terminal", {})
    if terminal.get("output"):
        sys.stdout = _Shown(os.fdopen(1, "wb", closefd=False), encoding="utf-8", errors="replace", line_buffering=True)
    if terminal.get("error"):
        sys.stderr = _Shown(os.fdopen(2, "wb", closefd=False), encoding="utf-8", errors="replace", line_buffering=True)


class _Worker:
    """The child *pid*, to which signals are sent until it has been waited for: then its pid may be another's.

    One that lets the third pass without ending is killed: nothing of a home is lost by that, and a person is heard.
    """

    def __init__(self, pid: int) -> None:
        self._pid: int | None = pid
        self._count = 0
        #: A descriptor that is readable when it has ended, None where the system has none.
        self.ending = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def send(self, number: int) -> None:
        """Send *number* to it, SIGKILL in the end."""
        self._count += 1
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number if self._count < MOST_SIGNALS else signal.SIGKILL)

    def ended(self) -> int | None:
        """Return its status once it has ended."""
        pid = self._pid
        if pid is None or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self._pid = None
        return os.waitpid(pid, 0)[1]


class _Output:
    """Our standard output and error; *quiet*: what is written is held until `release`, up to `MOST_HELD` bytes."""

    def __init__(self, *, quiet: bool) -> None:
        self._held: list[tuple[int, bytes]] | None = [] if quiet else None
        self._room = MOST_HELD
        self._begun: dict[int, bytes] = {}  # of a character whose rest has not come

    def write(self, target: int, data: bytes) -> None:
        """Write *data* to the stream *target*; to a terminal only what moves and colours lines. Raises OSError."""
        if self._held is not None:
            data = data[: self._room]
            self._room -= len(data)
            self._held.append((target, data))
            return
        if os.isatty(target):
            data = self._begun.pop(target, b"") + data
            if data.endswith(CONTROL_LEAD):
                data, self._begun[target] = data[:-1], CONTROL_LEAD
            data = CONTROLS.sub(b"?", data)
        written = 0
        while written < len(data):
            written += os.write(target, data[written:])

    def release(self) -> None:
        """Write what was held."""
        held, self._held = self._held or [], None
        with suppress(BrokenPipeError):
            for target, data in held:
                self.write(target, data)


def _attend(worker: _Worker, pipes: dict[int, int], channel: socket.socket, answer: Answerer, shown: _Output) -> int:
    """Pass *pipes* on (theirs → our stream) and answer requests until *worker* ends; return its status."""
    open_channel: socket.socket | None = channel
    ending = worker.ending
    try:
        while True:
            watched = [*pipes, *([] if open_channel is None else [open_channel.fileno()])]
            watched += [] if ending is None else [ending]
            readable, _, _ = select.select(watched, [], [], None if ending is not None else POLL)
            for source in [one for one in pipes if one in readable]:
                if not _pass_on(source, pipes[source], shown):
                    os.close(source)
                    del pipes[source]
            if open_channel is not None and open_channel.fileno() in readable and not _answer_one(open_channel, answer):
                open_channel = None
            status = worker.ended()
            if status is not None:
                _drain(pipes, shown)
                return status
    finally:
        for source in pipes:
            os.close(source)
        if ending is not None:
            os.close(ending)


def _drain(pipes: Mapping[int, int], shown: _Output) -> None:
    """Pass on what the worker has left in *pipes*, and no more: another process may write on."""
    for source, target in pipes.items():
        os.set_blocking(source, False)
        for _ in range(PIPE // CHUNK):
            if not _pass_on(source, target, shown):
                break


def _pass_on(source: int, target: int, shown: _Output) -> bool:
    """Write what *source* has to *target*; return whether more may come."""
    try:
        data = os.read(source, CHUNK)
        shown.write(target, data)
    except (BlockingIOError, BrokenPipeError):
        return False
    return bool(data)


def _answer_one(channel: socket.socket, answer: Answerer) -> bool:
    """Reply the next request; return whether the other end is still to be served."""
    try:
        received = receive(channel)
    except (ValueError, OSError):  # not one of ours any more
        return False
    if received is None:
        return False
    message, descriptors = received
    passed: list[int] = []
    try:
        values, passed = answer(Request(str(message.get("request"))), dict(message.get("values") or {}), descriptors)
        reply: dict[str, Any] = {"values": values}
    except MosaicError as error:
        reply = error_message(error)
    except OSError as error:
        reply = error_message(InternalError(f"root's process: {error.strerror or error}: {error.filename or ''}"))
    except Exception as error:  # noqa: BLE001 - the boundary: no request ends root's process
        reply = error_message(InternalError(f"root's process does not take such a request: {error!r}"))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    try:
        send(channel, reply, passed)
    except (OSError, InternalError):
        return False
    finally:
        for descriptor in passed:
            os.close(descriptor)
    return True


def _end_like(number: int) -> None:
    """End by the signal that the worker ended by, so that the process that waits for us sees the same."""
    with suppress(OSError, ValueError):  # SIGKILL and SIGSTOP have no handlers
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
