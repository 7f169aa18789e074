"""The worker: a process of the home's owner that runs a verb called by root; and root's side of it.

Theory of operation. Root's process forks. The child starts a new session, closes all descriptors but the three standard
streams and one socket, drops root privileges irrevocably, is killed when root's process exits, and runs the whole verb
as an ordinary user's process would. If the account cannot read the program, the verb's modules are imported before.
PR_SET_DUMPABLE (prctl(2)) prevents other processes of the account from reading or tracing the worker.

The worker has no access to root's terminal. It writes into pipes, whose content root's process copies to its own
output, and root's process prompts the user. The worker sends requests over the socket (`root_requests`), one at a time.
Root's process forwards signals to the worker, and exits with the worker's exit code or by the same signal.
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

from mosaic_gateway.cli.envelope import translate_os_error
from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.errors import InternalError, MosaicError
from mosaic_gateway.gateway.control.program import archive_descriptors
from mosaic_gateway.process import channel, interruptions, privileges, root_requests
from mosaic_gateway.process.account import Account, unreadable_part
from mosaic_gateway.process.command import follow_parent
from mosaic_gateway.process.environment import process_environment

__all__ = ["Answerer", "Run", "run_worker"]

CHANNEL = 3  # descriptor of the socket in the worker
#: The only option with which a verb reads root's standard input.
READS_INPUT = "--password-stdin"
MOST_SIGNALS = 3  # the third signal is sent as SIGKILL
CHUNK = 65536
PIPE = 1 << 20  # capacity of a pipe, bytes (pipe(7))
MOST_BUFFERED = 1 << 20  # bytes of output that are buffered with quiet
CHANNEL_LIMIT = 30.0  # seconds to receive the rest of a message, or to send one
#: Control sequences that are not passed to a terminal: all except newlines, colours and those of `reporter`.
CONTROLS = re.compile(rb"\x1b(?!\[[0-9;]*[mK]|\[\?25[lh])|[\x00-\x07\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f]|\xc2[\x80-\x9f]")
CONTROL_LEAD = b"\xc2"  # first byte of a C1 control character (U+0080 to U+009F) in UTF-8
POLL = 0.05  # seconds; used if the system has no pidfd

#: Handles one request; raises MosaicError. The caller closes the descriptors of the request afterwards.
Answerer = Callable[[root_requests.Request, Mapping[str, Any], Sequence[int]], root_requests.Reply]
#: Runs the verb in the worker, with the worker's end of the channel, and returns the exit code.
Run = Callable[[channel.BrokerClient], int]


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
    """Call *run* as *account* in a child process and return its exit code; if a signal ended it, end by that signal.

    The worker receives *facts* about root's process; *answer* handles its requests. If the account cannot read the
    program, the modules of *verb* are imported first. *environ* is added to the environment that `account_environment`
    returns. With *quiet* the output is printed only if the worker fails.
    """
    if unreadable_part(account) is not None:
        invocation.load(verb)
    root_end, worker_end = socket.socketpair()
    root_end.settimeout(CHANNEL_LIMIT)
    output, error = os.pipe(), os.pipe()
    worker_facts = {**facts, **_terminal(), "directory": str(invocation.directory), "program": invocation.program}
    _flush()
    with interruptions.Interruptions() as signals:
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _run_child(
                parent,
                account,
                {**privileges.account_environment(process_environment(), account), **environ},
                _Streams(output[1], error[1], worker_end.detach(), READS_INPUT in invocation.words),
                worker_facts,
                run,
            )
        worker_end.close()
        os.close(output[1])
        os.close(error[1])
        output_writer = _Output(quiet=quiet)
        worker = _Worker(pid)
        with root_end, signals.passed_to(worker.send):
            status = _serve(worker, {output[0]: 1, error[0]: 2}, root_end, answer, output_writer)
    code = os.waitstatus_to_exitcode(status)
    if code:
        output_writer.release()
    if code < 0:
        _end_by_signal(-code)
    return code


@dataclass(frozen=True, slots=True)
class _Streams:
    output: int
    error: int
    channel: int
    reads_input: bool


def _run_child(
    parent: int,
    account: Account,
    environ: Mapping[str, str],
    streams: _Streams,
    facts: Mapping[str, Any],
    run: Run,
) -> None:
    """Run the worker in the forked child; does not return."""
    code = 1
    try:
        for number in interruptions.INTERRUPTIONS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
        os.setsid()
        _set_up_descriptors(streams)
        os.chdir("/")
        os.umask(0o077)
        privileges.drop_root(account, environ)
        follow_parent(parent, signal.SIGKILL)
        _set_up_output(facts)
        code = run(channel.BrokerClient(socket.socket(fileno=CHANNEL), facts))
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
        if stream is not None:  # None if the caller closed it
            stream.flush()


def _set_up_descriptors(streams: _Streams) -> None:
    """Close all descriptors except three standard streams, the channel and the program's archive.

    Root's terminal is not passed to the worker.
    """
    inherited = 0 if streams.reads_input and not os.isatty(0) else os.open(os.devnull, os.O_RDONLY)
    duplicates = [os.dup(descriptor) for descriptor in (inherited, streams.output, streams.error, streams.channel)]
    duplicates = [descriptor if descriptor > CHANNEL else _above_channel(descriptor) for descriptor in duplicates]
    for target, descriptor in enumerate(duplicates):
        os.dup2(descriptor, target)
    archives = archive_descriptors()
    with suppress(FileNotFoundError):
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers; some may be above the current RLIMIT_NOFILE
            if int(name) > CHANNEL and int(name) not in archives:
                with suppress(OSError):
                    os.close(int(name))
    low = CHANNEL + 1
    for end in (*sorted(archives), os.sysconf("SC_OPEN_MAX")):
        os.closerange(low, end)
        low = end + 1


def _above_channel(descriptor: int) -> int:
    import fcntl

    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, CHANNEL + 1)


def _terminal() -> dict[str, Any]:
    """Return which of this process's streams are a terminal, and its width; the worker cannot find out."""
    streams = {"input": sys.__stdin__, "output": sys.__stdout__, "error": sys.__stderr__}
    terminals = {name: stream is not None and stream.isatty() for name, stream in streams.items()}
    return {"terminal": terminals, "columns": shutil.get_terminal_size().columns}


class _TerminalStream(io.TextIOWrapper):
    """A pipe whose reader copies what is written to a terminal."""

    def isatty(self) -> bool:
        return True


def _set_up_output(facts: Mapping[str, Any]) -> None:
    os.environ["COLUMNS"] = str(facts.get("columns", 80))
    terminal = facts.get("terminal", {})
    if terminal.get("output"):
        sys.stdout = _terminal_stream(1)
    if terminal.get("error"):
        sys.stderr = _terminal_stream(2)


def _terminal_stream(descriptor: int) -> _TerminalStream:
    binary = os.fdopen(descriptor, "wb", closefd=False)
    return _TerminalStream(binary, encoding="utf-8", errors="replace", line_buffering=True)


class _Worker:
    """The child *pid*. Signals are sent only until it has been reaped; after that its pid may be reused.

    The third signal is sent as SIGKILL, so that a user can always end the command. A kill loses no data of a home.
    """

    def __init__(self, pid: int) -> None:
        self._pid: int | None = pid
        self._count = 0
        #: A pidfd, readable when the child has ended; None where the system has none.
        self.ending = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def send(self, number: int) -> None:
        """Send signal *number* to the child, SIGKILL from the third time on."""
        self._count += 1
        if self._pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, number if self._count < MOST_SIGNALS else signal.SIGKILL)

    def ended(self) -> int | None:
        """Return the wait status if the child has ended, else None."""
        pid = self._pid
        if pid is None or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self._pid = None
        return os.waitpid(pid, 0)[1]


class _Output:
    """This process's standard output and error; with *quiet*, up to `MOST_BUFFERED` bytes wait for `release`."""

    def __init__(self, *, quiet: bool) -> None:
        self._buffered: list[tuple[int, bytes]] | None = [] if quiet else None
        self._space = MOST_BUFFERED
        self._partial: dict[int, bytes] = {}  # stream -> first byte of an incomplete character

    def write(self, target: int, data: bytes) -> None:
        """Write *data* to the stream *target*; replace control sequences if it is a terminal. Raises OSError."""
        if self._buffered is not None:
            data = data[: self._space]
            self._space -= len(data)
            self._buffered.append((target, data))
            return
        if os.isatty(target):
            data = self._partial.pop(target, b"") + data
            if data.endswith(CONTROL_LEAD):
                data, self._partial[target] = data[:-1], CONTROL_LEAD
            data = CONTROLS.sub(b"?", data)
        written = 0
        while written < len(data):
            written += os.write(target, data[written:])

    def release(self) -> None:
        """Write the buffered output."""
        buffered, self._buffered = self._buffered or [], None
        with suppress(BrokenPipeError):
            for target, data in buffered:
                self.write(target, data)


def _serve(worker: _Worker, pipes: dict[int, int], connection: socket.socket, answer: Answerer, writer: _Output) -> int:
    """Copy *pipes* (worker's output → own stream) and handle requests until *worker* ends; return its wait status."""
    open_channel: socket.socket | None = connection
    ending = worker.ending
    try:
        while True:
            watched = [*pipes, *([] if open_channel is None else [open_channel.fileno()])]
            watched += [] if ending is None else [ending]
            readable, _, _ = select.select(watched, [], [], None if ending is not None else POLL)
            for source in [pipe for pipe in pipes if pipe in readable]:
                if not _copy_once(source, pipes[source], writer):
                    os.close(source)
                    del pipes[source]
            if open_channel is not None and open_channel.fileno() in readable:
                open_channel = open_channel if _handle_request(open_channel, answer) else None
            status = worker.ended()
            if status is not None:
                _drain(pipes, writer)
                return status
    finally:
        for source in pipes:
            os.close(source)
        if ending is not None:
            os.close(ending)


def _drain(pipes: Mapping[int, int], writer: _Output) -> None:
    """Copy what is in *pipes* now, at most one pipe capacity each: another process may go on writing."""
    for source, target in pipes.items():
        os.set_blocking(source, False)
        for _ in range(PIPE // CHUNK):
            if not _copy_once(source, target, writer):
                break


def _copy_once(source: int, target: int, writer: _Output) -> bool:
    """Copy one read of *source* to *target*; return False at end of file or if nothing can be copied."""
    try:
        data = os.read(source, CHUNK)
        writer.write(target, data)
    except (BlockingIOError, BrokenPipeError):
        return False
    return bool(data)


def _handle_request(connection: socket.socket, answer: Answerer) -> bool:
    """Answer the next request; return False if the connection must not be used any more."""
    try:
        received = channel.receive(connection)
    except (ValueError, OSError):  # not a valid message
        return False
    if received is None:
        return False
    message, descriptors = received
    passed: list[int] = []
    try:
        values, passed = answer(
            root_requests.Request(str(message.get("request"))), dict(message.get("values") or {}), descriptors
        )
        reply: dict[str, Any] = {"values": values}
    except MosaicError as error:
        reply = channel.error_message(error)
    except OSError as error:
        reply = channel.error_message(translate_os_error(error))
    except Exception as error:  # noqa: BLE001 - the boundary: no request ends root's process
        reply = channel.error_message(InternalError(f"root's process cannot handle the request: {error!r}"))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    try:
        channel.send(connection, reply, passed)
    except (OSError, InternalError):
        return False
    finally:
        for descriptor in passed:
            os.close(descriptor)
    return True


def _end_by_signal(number: int) -> None:
    """End this process by signal *number*, so that its parent sees the same wait status as the worker's."""
    with suppress(OSError, ValueError):  # SIGKILL and SIGSTOP have no handlers
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
