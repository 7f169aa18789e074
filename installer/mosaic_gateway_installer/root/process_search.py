"""Search for processes: those of an account, and supervisors of a home that run as root."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.process import Account

__all__ = ["end_roots_supervisors", "process_running_as"]


def process_running_as(account: Account, *, but: int) -> int | None:
    """Return the pid of a process that runs as *account*, except descendants of the process *but*.

    Processes in containers are not counted: there the same user id is another user. Like userdel, this recognises them
    by their root directory.
    """
    import psutil

    excluded = {child.pid for child in psutil.Process(but).children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in excluded and process.uids().real == account.uid and _has_same_root(process.pid):
                return process.pid
    return None


def _has_same_root(pid: int) -> bool:
    """Return whether the process has this process's root directory, or has left it by a user namespace of its own.

    Without a user namespace, only root can have given it another root directory. Raises OSError.
    """
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").is_dir():
        return True
    return (process / "root").samefile("/") or not (process / "ns/user").samefile("/proc/self/ns/user")


def end_roots_supervisors(home: Path) -> None:
    """Send SIGTERM to every supervisor of *home* that runs as root.

    In version 0.1.0 the supervisor ran as root if the account could not run the interpreter or the port was below
    1024. It is recognised by its command line, which only root can have set for a process of root's.
    """
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == 0 and _supervises(process.cmdline(), home) and _has_same_root(process.pid):
                process.send_signal(signal.SIGTERM)


def _supervises(words: list[str], home: Path) -> bool:
    return "supervise" in words and words[words.index("supervise") + 1 :][:2] == ["--home", str(home)]
