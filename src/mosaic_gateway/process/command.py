"""Runs other programs: with a timeout, and with a signal to them when this process exits."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mosaic_gateway.errors import MosaicError

__all__ = ["CommandFailedError", "die_with_parent", "ending_of", "follow_parent", "run"]

TAIL = 4000  # characters of output in an error
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class CommandFailedError(MosaicError):
    """A program failed or exceeded its timeout; ``details`` has the end of its output."""

    code = "COMMAND_FAILED"


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | str = "/",
    stdin: bytes | None = None,
    parent_death_signal: signal.Signals | None = None,
) -> str:
    """Run *argv* and return its standard output. *timeout* is in seconds.

    With *parent_death_signal* the program gets that signal when this process exits (see `die_with_parent`).
    Raises `CommandFailedError` if the exit code is not 0 or the timeout expires.
    Pass secrets through *stdin*, never through *argv*.
    """
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(
            words, input=stdin if stdin is not None else b"", capture_output=True, timeout=timeout, cwd=cwd,
            env=dict(env) if env is not None else None, umask=0o077, check=False,
            preexec_fn=die_with_parent(parent_death_signal) if parent_death_signal is not None else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise CommandFailedError(
            f"{words[0]} did not exit within {timeout:g} s", details={"output": _tail(error.stdout, error.stderr)}
        ) from error
    except OSError as error:
        raise CommandFailedError(f"{words[0]} could not be started: {error.strerror}") from error
    if done.returncode != 0:
        output = _tail(done.stdout, done.stderr)
        raise CommandFailedError(
            f"{words[0]} failed with {ending_of(done.returncode)}: {output or 'no output'}", details={"output": output}
        )
    text: str = done.stdout.decode(errors="replace")
    return text


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that has the kernel send *number* to the child when its parent thread ends.

    Linux only (prctl(2), PR_SET_PDEATHSIG); None elsewhere. The parent is the *thread* that starts
    the child: use one that runs as long as the process. libc is loaded here, before the fork, because
    a forked child of a threaded process must not acquire the loader's lock. A change of user ids clears
    the setting; after that, call `follow_parent`.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def set_signal() -> None:
        prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return set_signal


def follow_parent(parent: int, number: signal.Signals) -> None:
    """Have the kernel send *number* to this process when its parent *parent* exits; immediately if it has exited."""
    request = die_with_parent(number)
    if request is not None:
        request()
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def ending_of(returncode: int) -> str:
    """Describe *returncode* for a message: exit code or signal name. Pure."""
    if returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"exit code {returncode}"


def _tail(*outputs: bytes | None) -> str:
    text = "\n".join(part.decode(errors="replace").strip() for part in outputs if part)
    return text.strip()[-TAIL:]
