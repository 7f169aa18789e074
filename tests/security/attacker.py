"""A process of the account that attacks while a verb runs; started by `race.started`.

It starts as root, because the interpreter may be closed to the account, drops root, and imports nothing afterwards:
``python -I attacker.py UID GID WAY HOME ARGUMENT…``. It writes one line when it is ready, and runs until it is killed.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
LONGEST_PAUSE = 400e-6  # seconds
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]


def exchange(one: Path, other: Path) -> None:
    """Exchange two names, atomically if the file system supports it. Raises OSError."""
    if LIBC.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in {errno.EINVAL, errno.ENOSYS}:
        raise OSError(number, os.strerror(number), str(one))
    aside = other.with_name(f"{other.name}.aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def exchange_directories(home: Path, target: str, *names: str) -> None:
    """Exchange each of *names* in the home with a link to *target* and back, repeatedly."""
    beside = home / ".beside"
    beside.mkdir(exist_ok=True)
    pairs = [(home / name, beside / name.replace("/", "-")) for name in names]
    for _, link in pairs:
        link.symlink_to(target)
    while True:
        for path, link in pairs:
            with suppress(OSError):  # it does not exist at the moment
                exchange(path, link)
                _pause()
                exchange(path, link)
            _pause()


def exchange_home(home: Path, target: str) -> None:
    """Exchange the home itself with a link to *target*, repeatedly."""
    link = home.with_name("link")
    link.symlink_to(target)
    while True:
        exchange(home, link)
        _pause(part=0.25)


def hold_lock(home: Path, path: str, pid: str) -> None:
    """Lock the lock file *path* and write *pid* into it."""
    descriptor = os.open(home / path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": int(pid), "url": "http://127.0.0.1:9"}).encode(), 0)
    _write_ready()
    time.sleep(600)


def move_copy_to_runtime(home: Path, backup: str) -> None:
    """Replace the program copy by the copy with which *backup* is verified, then make the copying fail."""
    copy = _await(home / "backups", ".verify.*.tmp/.data.*.tmp")
    time.sleep(0.03)  # the copying must have listed the directory that is removed below
    (home / "runtime").rename(home / ".runtime")
    copy.parent.rename(home / "runtime")
    (home / "runtime" / copy.name).rename(home / "runtime" / "gateway-9.9.9")
    (home / "backups" / backup / "data" / "zz").rmdir()
    (home / "runtime" / "current").symlink_to("gateway-9.9.9")
    time.sleep(600)


def exchange_backup(home: Path, backup: str, target: str) -> None:
    """Replace *backup* by a link to *target* while its data is copied, and save the secret that is restored."""
    _await(home, ".restoring/new/.data.*.tmp")
    directory = home / "backups" / backup
    directory.rename(home / "backups" / f".{backup}")
    directory.symlink_to(target)
    while True:
        with suppress(OSError):
            shutil.copyfile(_await(home, ".restoring/new/secrets/auth-secret"), home / "stolen")


def _await(top: Path, pattern: str) -> Path:
    """Wait for a path that matches *pattern*, and return it."""
    while True:
        with suppress(OSError):  # a directory was renamed in the meantime
            for path in top.glob(pattern):
                return path


def _pause(*, part: float = 1.0) -> None:
    time.sleep(random.uniform(0, LONGEST_PAUSE * part))


def _write_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


WAYS: dict[str, Callable[..., None]] = {
    way.__name__: way for way in (exchange_directories, exchange_home, hold_lock, move_copy_to_runtime, exchange_backup)
}


def main(uid: str, gid: str, way: str, home: str, *arguments: str) -> None:
    """Switch to the account and attack until killed."""
    os.setgroups([])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    if way != hold_lock.__name__:
        _write_ready()
    WAYS[way](Path(home), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
