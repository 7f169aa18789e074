"""The supervisor, which keeps a gateway running in the background: ``mosaic-gateway supervise``.

Theory of operation. The supervisor forks a gateway (``serve``), copies its output into the rotated log, and forks
another one after growing pauses when it exits unexpectedly. It forwards SIGTERM and exits after the gateway. If the
first gateway exits before it was ready, the supervisor exits with the same exit code; the process that started it
receives the error through the ready pipe. It has one thread and imports few modules. A tether is a pipe whose write
end an upgrade holds: the supervisor stops if the upgrade exits before it has confirmed the new version, so that a
new version never runs without a process that can roll it back.

Root starts a supervisor only if the service account cannot run the interpreter (``--account``): it then imports all
that serving needs, and switches to the account before it accesses the home.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from mosaic_gateway.errors import BusyError, ExitCode
from mosaic_gateway.gateway.control.ready_pipe import SUPERVISOR_BUSY, ReadyPipe
from mosaic_gateway.hint import Hint, command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.account import account_named
from mosaic_gateway.process.command import die_with_parent, ending_of
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.process.file_lock import FileLock, last_note
from mosaic_gateway.process.logfile import RotatingFile
from mosaic_gateway.process.privileges import account_environment, drop_root

__all__ = ["Supervisor", "main"]

FIRST_PAUSE = 0.5  # seconds before the first restart; doubles
LONGEST_PAUSE = 30.0
STOP_LIMIT = 45  # seconds until SIGKILL; above the sum of the gateway's own limits
SETTLED = 60.0  # seconds; a gateway that ran this long is restarted after FIRST_PAUSE
STREAMS = (1, 2)  # standard output and error
LIBRARY = os.__file__
GONE = f"The library of the interpreter {sys.executable}"
#: Runs a command line and returns its exit code.
RunWords = Callable[[Sequence[str]], int]


class SupervisorBusyError(BusyError):
    """Another supervisor runs the gateway of the home."""

    code = SUPERVISOR_BUSY


class _Gateway:
    """A forked gateway, a child of this process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send *number* unless it has exited; its pid is not reused before waitpid(2) returned it."""
        if self._poll(os.WNOHANG) is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait, and return the exit code, negative for a signal (as in ``subprocess``)."""
        code = self._poll(0)
        assert code is not None  # noqa: S101 - it was waited for
        return code

    def _poll(self, options: int) -> int | None:
        if self._code is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code


class Supervisor:
    """Supervises one gateway and writes its log."""

    def __init__(
        self,
        home: Home,
        lock: FileLock,
        run_words: RunWords,
        *,
        ready: int | None,
        go: int | None,
        tether: int | None,
        listener: int | None,
        issue_link: bool,
    ) -> None:
        """*run_words* runs a command line in a forked child; *lock* is held; the others are descriptors and options."""
        self._home = home
        self._lock = lock
        self._run_words = run_words
        self._tether = tether
        self._options = ["--upgrading"] if tether is not None else []
        self._options += [] if listener is None else ["--listen-fd", str(listener)]
        self._first_options = _options(ready=ready, go=go, issue_link=issue_link)
        self._ready, self._go = ready, go
        self._log = RotatingFile(home.gateway_log)
        self._child: _Gateway | None = None
        self._stopping = False

    def run(self) -> int:
        """Keep the gateway running until SIGTERM or SIGINT; return the exit code for this process."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGALRM, self._kill)
        pause, first = FIRST_PAUSE, True
        while not self._stopping:
            started = time.monotonic()
            code = self._run_once(first=first)
            if first and not self._was_ready() and not self._stopping:
                return code
            first = False
            if not self._stopping:
                pause = FIRST_PAUSE if time.monotonic() - started > SETTLED else pause
                self._log_warning(f"The gateway ended ({ending_of(code)}); starting it again in {pause:g} s")
                if not os.path.exists(LIBRARY):  # noqa: PTH110 - pathlib may be gone, too
                    self._log_warning(f"{GONE} does not exist. " + str(self._repair()))
                self._sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        return ExitCode.DONE

    def _run_once(self, *, first: bool) -> int:
        words = ["serve", "--home", str(self._home.path), "--supervisor", str(os.getpid()), *self._options]
        words += self._first_options if first else []
        output, writer = os.pipe()
        set_death_signal = die_with_parent(signal.SIGTERM)  # loads libc before the fork
        pid = os.fork()
        if pid == 0:
            if set_death_signal is not None:
                set_death_signal()
            self._serve(words, writer, unused=(output,))
        self._child = _Gateway(pid)
        os.close(writer)
        if first and self._go is not None:
            os.close(self._go)
        if self._stopping:
            self._child.signal(signal.SIGTERM)
        try:
            self._copy_output(output)
        finally:
            os.close(output)
            if first and self._ready is not None:  # only now: the starter reads the log at this pipe's end of file
                os.close(self._ready)
        return self._child.wait()

    def _serve(self, words: Sequence[str], output: int, *, unused: Sequence[int]) -> None:
        """Run the gateway in the forked child; does not return."""
        code = int(ExitCode.FAILED)
        try:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
                signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)
            for stream in STREAMS:
                os.dup2(output, stream)
            for descriptor in (output, *unused, *([] if self._tether is None else [self._tether])):
                os.close(descriptor)
            self._lock.leave()
            self._log.close()
            code = self._run_words(words)
            sys.stdout.flush()
            sys.stderr.flush()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else code
        finally:
            os._exit(code)

    def _copy_output(self, output: int) -> None:
        """Copy *output* into the log, line by line, until end of file; handle the tether meanwhile."""
        pending = b""
        while True:
            readable, _, _ = select.select([output, *([] if self._tether is None else [self._tether])], [], [])
            if self._tether in readable:
                self._read_tether()
            if output in readable:
                chunk = os.read(output, 65536)
                if not chunk:
                    break
                *lines, pending = (pending + chunk).split(b"\n")
                for line in lines:
                    self._write(line + b"\n")
        if pending:
            self._write(pending)

    def _read_tether(self) -> None:
        assert self._tether is not None  # noqa: S101 - checked by the caller
        confirmation = os.read(self._tether, 1)
        os.close(self._tether)
        self._tether = None
        if not confirmation:
            self._log_warning("The upgrade that started this gateway exited before it was complete; stopping")
            self._stop(signal.SIGTERM, None)

    def _was_ready(self) -> bool:
        note = last_note(self._home.gateway_lock)
        return note is not None and self._child is not None and note.pid == self._child.pid and "url" in note.facts

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._child is not None:
            self._child.signal(signal.SIGTERM)
            signal.alarm(STOP_LIMIT)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        if self._child is not None:
            self._child.signal(signal.SIGKILL)

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            time.sleep(0.1)

    def _repair(self) -> Hint:
        install = command("install", home=self._home.path)
        return "Install mosaic-gateway with a current Python, then run its " + install

    def _log_warning(self, text: str) -> None:
        self._write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} WARNING supervisor: {text}\n".encode())

    def _write(self, line: bytes) -> None:
        try:
            self._log.write(line)
        except OSError:  # on a full disk log lines are lost, but the gateway goes on
            return


def main(words: Sequence[str], run_words: RunWords) -> int:
    """Run the supervisor of one home with the command-line options *words*; return its exit code.

    *run_words* runs the command line of a gateway in a forked child.
    """
    parser = argparse.ArgumentParser(prog="mosaic-gateway-supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--go-fd", type=int)
    parser.add_argument("--tether-fd", type=int)
    parser.add_argument("--listen-fd", type=int)
    parser.add_argument("--issue-link", action="store_true")
    parser.add_argument("--account")
    arguments = parser.parse_args(words)
    if arguments.account is not None:
        _switch_to(arguments.account)
    home = Home(arguments.home)
    with FileLock(home.supervisor_lock) as lock:
        if not lock.acquire():
            busy = SupervisorBusyError(f"another supervisor runs the gateway of {home.path}")
            ReadyPipe(arguments.ready_fd).failed(busy)
            return ExitCode.BUSY
        supervisor = Supervisor(
            home,
            lock,
            run_words,
            ready=arguments.ready_fd,
            go=arguments.go_fd,
            tether=arguments.tether_fd,
            listener=arguments.listen_fd,
            issue_link=arguments.issue_link,
        )
        try:
            return supervisor.run()
        finally:
            if arguments.listen_fd is not None:
                os.close(arguments.listen_fd)  # before the lock is released: who gets the lock can bind the port


def _switch_to(name: str) -> None:
    """Import what serving needs, which the account may not be able to read, and switch to the account *name*."""
    from mosaic_gateway.gateway.run.server import preload, preload_engines

    account = account_named(name)
    if account is None or account.uid == 0:
        raise LookupError(name)
    preload()
    preload_engines()
    drop_root(account, account_environment(process_environment(), account))


def _options(*, ready: int | None, go: int | None, issue_link: bool) -> list[str]:
    options = [] if ready is None else ["--ready-fd", str(ready)]
    if go is not None:
        options += ["--go-fd", str(go)]
    return [*options, "--issue-link"] if issue_link else options
