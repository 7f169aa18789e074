"""Processes of this machine that root looks for: those of an account, and root's own supervisors of a home."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.process.account import Account

__all__ = ["end_roots_supervisors", "process_running_as"]


def process_running_as(account: Account, *, but: int) -> int | None:
    """Return the pid of a process that runs as *account*, children of the process *but* not counted.

    Those of containers do not count either, whose user ids are their own: their root is another (as userdel has it).
    """
    import psutil

    ours = {child.pid for child in psutil.Process(but).children(recursive=True)}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid not in ours and process.uids().real == account.uid and _has_our_root(process.pid):
                return process.pid
    return None


def _has_our_root(pid: int) -> bool:
    """Return whether the process sees the file system that we see, or has left it by itself.

    Only root can have given it another one, unless it has a user namespace of its own. Raises OSError.
    """
    process = Path(f"/proc/{pid}")
    if not Path("/proc/self").is_dir():
        return True
    return (process / "root").samefile("/") or not (process / "ns/user").samefile("/proc/self/ns/user")


def end_roots_supervisors(home: Path) -> None:
    """Ask every supervisor of *home* that runs as root to end (SIGTERM).

    Version 0.1.0 left the supervisor root's where the account could not run the interpreter, or the port was below
    1024. Found by its words, which only root can have given to a process of root's.
    """
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.uids().real == 0 and _supervises(process.cmdline(), home) and _has_our_root(process.pid):
                process.send_signal(signal.SIGTERM)


def _supervises(words: list[str], home: Path) -> bool:
    return "supervise" in words and words[words.index("supervise") + 1 :][:2] == ["--home", str(home)]
