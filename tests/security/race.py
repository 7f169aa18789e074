"""Processes of the account that interfere while a verb of root's runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from tests.security import attacker
from tests.security.installation import Installation

__all__ = [
    "EXCHANGE_BACKUP",
    "EXCHANGE_DIRECTORIES",
    "EXCHANGE_HOME",
    "HOLD_LOCK",
    "MOVE_COPY_TO_RUNTIME",
    "started",
]

EXCHANGE_DIRECTORIES = attacker.exchange_directories.__name__
EXCHANGE_HOME = attacker.exchange_home.__name__
EXCHANGE_BACKUP = attacker.exchange_backup.__name__
HOLD_LOCK = attacker.hold_lock.__name__
MOVE_COPY_TO_RUNTIME = attacker.move_copy_to_runtime.__name__


@contextmanager
def started(installation: Installation, way: str, *arguments: str) -> Iterator[None]:
    """Run the function *way* of `attacker` as the account for the length of the block."""
    uid, gid = map(str, installation.owner)
    words = [sys.executable, "-I", str(Path(attacker.__file__)), uid, gid, way, installation.home, *arguments]
    with installation.machine.popen(words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError(process.stderr.read())
        try:
            yield
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
