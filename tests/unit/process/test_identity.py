"""A pid with its start time is a name; a pid alone is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mosaic_gateway.process.identity import ProcessIdentity, identify, is_running, myself


def test_myself() -> None:
    """This process is itself, however often and whenever it is asked."""
    mine = myself()
    assert mine.pid == os.getpid()
    assert myself() == mine
    assert is_running(mine)
    assert ProcessIdentity.from_dict(mine.to_dict()) == mine


def test_another_with_our_pid() -> None:
    """A process that began at another time is another one."""
    assert not is_running(replace(myself(), started=myself().started - 1))
    assert not is_running(None)


def test_gone_and_zombie() -> None:
    """A process that has ended does not run, even while its parent has not asked for its end."""
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


def test_misleading_names(tmp_path: Path) -> None:
    """A program's name full of brackets and spaces does not shift what is read after it."""
    program = tmp_path / ") R 1 (x"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "60"])
    try:
        identity = identify(process.pid)
        assert identity is not None
        assert 0 <= identity.started - myself().started < 3600
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("value", [None, [], {}, {"pid": 1}, {"pid": "x", "started": 1}, {"pid": 1, "started": None}])
def test_what_is_no_identity(value: object) -> None:
    """Whatever a damaged file holds is no identity."""
    assert ProcessIdentity.from_dict(value) is None
