"""Identity of a process: pid and start time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mosaic_gateway.process.identity import ProcessIdentity, identify, is_running, own_identity


def test_own_identity() -> None:
    """The identity of this process is the same each time it is read."""
    mine = own_identity()
    assert mine.pid == os.getpid()
    assert own_identity() == mine
    assert is_running(mine)
    assert ProcessIdentity.from_dict(mine.to_dict()) == mine


def test_other_process_with_the_same_pid() -> None:
    """A process with another start time is a different process."""
    assert not is_running(replace(own_identity(), started=own_identity().started - 1))
    assert not is_running(None)


def test_exited_process_and_zombie() -> None:
    """A process that has exited is not running, even while it is a zombie."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(process.pid)
    assert is_running(identity)
    process.kill()
    deadline = time.monotonic() + 10
    while is_running(identity) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert identify(process.pid) is None
    process.communicate()
    assert identify(process.pid) is None


def test_program_name_with_brackets(tmp_path: Path) -> None:
    """Brackets and spaces in a program's name do not shift the fields that follow it."""
    program = tmp_path / ") R 1 (x"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        identity = identify(process.pid)
        assert identity is not None
        assert 0 <= identity.started - own_identity().started < 3600
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("value", [None, [], {}, {"pid": 1}, {"pid": "x", "started": 1}, {"pid": 1, "started": None}])
def test_invalid_identities(value: object) -> None:
    """Invalid content of a pid file is None."""
    assert ProcessIdentity.from_dict(value) is None
