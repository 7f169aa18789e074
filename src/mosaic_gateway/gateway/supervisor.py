"""Keeps a gateway running in the background: ``python -m mosaic_gateway supervise``, or a snapshot's.

Theory of operation. The supervisor starts ``serve``, moves its output into the rotated log, and starts
it again when it ends unasked, with growing pauses. SIGTERM is passed on; when the gateway has ended,
so has the supervisor. If the gateway ends before it was ever ready, the supervisor ends with its exit
code: whoever started it learns why through the ready pipe. It imports little, to stay small, and
has one thread. With a tether, a pipe that an upgrade holds, it ends when the upgrade does before that has
said that all is well: a new version never stays without who could take it back. As root it stays root,
because the interpreter may be readable for root only, but touches files as the home's owner.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from mosaic_gateway.config import Home
from mosaic_gateway.errors import ExitCode
from mosaic_gateway.gateway.program import this_program
from mosaic_gateway.process.account import Account, assume, owner_of
from mosaic_gateway.process.command import die_with_parent, ending_of
from mosaic_gateway.process.lockfile import FileLock, last_note
from mosaic_gateway.process.logfile import RotatingFile

__all__ = ["Supervisor", "main"]

FIRST_PAUSE = 0.5  # seconds before the first restart; doubles
LONGEST_PAUSE = 30.0
STOP_LIMIT = 45  # seconds that a gateway has to end; its own limits add up to less
SETTLED = 60.0  # a gateway that ran this long begins again with the first pause


class Supervisor:
    """One gateway and its log."""

    def __init__(
        self,
        home: Home,
        account: Account | None,
        *,
        ready: int | None,
        go: int | None,
        tether: int | None,
        issue_link: bool,
    ) -> None:
        self._home = home
        self._account = account
        self._program = this_program()
        self._tether = tether
        self._options = ["--upgrading"] if tether is not None else []
        self._first_options = _options(ready=ready, go=go, issue_link=issue_link)
        self._inherited = tuple(descriptor for descriptor in (ready, go) if descriptor is not None)
        self._log = RotatingFile(home.gateway_log)
        self._child: subprocess.Popen[bytes] | None = None
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
                self._say(f"The gateway ended ({ending_of(code)}); starting it again in {pause:g} s")
                self._sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        return ExitCode.DONE

    def _run_once(self, *, first: bool) -> int:
        argv = [*self._program.words, "serve", "--home", str(self._home.path), "--supervisor", str(os.getpid())]
        argv += self._options
        inherited: tuple[int, ...] = ()
        if first:
            argv += self._first_options
            inherited = self._inherited
        self._child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=(*inherited, *self._program.descriptors), cwd="/", umask=0o077,
            preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - this process has one thread
        )  # fmt: skip
        for descriptor in inherited:
            os.close(descriptor)
        if self._stopping:
            self._child.terminate()
        assert self._child.stdout is not None  # noqa: S101 - stdout=PIPE
        with self._child.stdout as output:
            self._pass_on(output.fileno())
        return self._child.wait()

    def _pass_on(self, output: int) -> None:
        """Write what comes from *output* into the log, line by line, until its end; mind the tether meanwhile."""
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
        assert self._tether is not None  # noqa: S101 - the caller has just seen it
        word = os.read(self._tether, 1)
        os.close(self._tether)
        self._tether = None
        if not word:
            self._say("The upgrade that started this gateway ended before it was complete; stopping")
            self._stop(signal.SIGTERM, None)

    def _was_ready(self) -> bool:
        note = last_note(self._home.gateway_lock)
        return note is not None and self._child is not None and note.pid == self._child.pid and "url" in note.facts

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
            signal.alarm(STOP_LIMIT)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        if self._child is not None and self._child.poll() is None:
            self._child.kill()

    def _sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            time.sleep(0.1)

    def _say(self, text: str) -> None:
        self._write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} WARNING supervisor: {text}\n".encode())

    def _write(self, line: bytes) -> None:
        try:
            with assume(self._account):
                self._log.write(line)
        except OSError:  # a full disk loses log lines, never the gateway
            return


def main(words: Sequence[str]) -> int:
    """Run the supervisor of one home, as the options *words* say; return its exit code."""
    parser = argparse.ArgumentParser(prog="mosaic-gateway-supervisor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--go-fd", type=int)
    parser.add_argument("--tether-fd", type=int)
    parser.add_argument("--issue-link", action="store_true")
    arguments = parser.parse_args(words)
    home = Home(arguments.home)
    account = owner_of(home.path)
    lock = FileLock(home.supervisor_lock)
    with assume(account):
        held = lock.acquire()
    if not held:
        return ExitCode.BUSY
    with lock:
        supervisor = Supervisor(
            home,
            account,
            ready=arguments.ready_fd,
            go=arguments.go_fd,
            tether=arguments.tether_fd,
            issue_link=arguments.issue_link,
        )
        return supervisor.run()


def _options(*, ready: int | None, go: int | None, issue_link: bool) -> list[str]:
    options = [] if ready is None else ["--ready-fd", str(ready)]
    if go is not None:
        options += ["--go-fd", str(go)]
    return [*options, "--issue-link"] if issue_link else options
