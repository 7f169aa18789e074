"""A lock is what the kernel says, never what a dead process left in the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mosaic_gateway.process.file_lock import FileLock, FileLockHolder, holder_of, last_note

#: Takes the lock argv[1], says so, and keeps it until it is killed.
HOLD = (
    "import sys, time; from pathlib import Path; from mosaic_gateway.process.file_lock import FileLock;"
    "lock = FileLock(Path(sys.argv[1])); assert lock.acquire(url='u'); print('held', flush=True); time.sleep(60)"
)


def test_acquire_and_release(tmp_path: Path) -> None:
    """Only one has the lock, its holder is named with what it noted, and release gives it back."""
    path = tmp_path / "a.lock"
    first, second = FileLock(path), FileLock(path)
    assert first.acquire(url="http://x")
    assert not second.acquire(timeout=0)
    assert holder_of(path) == FileLockHolder(os.getpid(), {"url": "http://x"})
    first.note(url="http://y", more=1)
    assert holder_of(path) == FileLockHolder(os.getpid(), {"url": "http://y", "more": 1})
    first.release()
    first.release()
    assert holder_of(path) is None
    assert last_note(path) == FileLockHolder(os.getpid(), {"url": "http://y", "more": 1})
    with second:
        assert second.acquire(timeout=0)
    assert holder_of(path) is None


def test_note_without_the_lock(tmp_path: Path) -> None:
    """Who does not hold a lock cannot say that he does."""
    with pytest.raises(ValueError, match="not held"):
        FileLock(tmp_path / "a.lock").note()


def test_private(tmp_path: Path) -> None:
    """The file is the owner's alone, whatever the umask, and is not inherited by children."""
    lock = FileLock(tmp_path / "a.lock")
    with lock:
        assert lock.acquire()
        assert lock.path.stat().st_mode & 0o777 == 0o600
        assert lock._descriptor is not None
        assert not os.get_inheritable(lock._descriptor)


@pytest.mark.parametrize("content", ["", "x", "[]", "{}", '{"pid": "x"}', '{"pid": null}', "1", "\xff" * 5000])
def test_damaged_note(tmp_path: Path, content: str) -> None:
    """A note that cannot be read is a holder without a pid while the lock is held, and nobody afterwards."""
    path = tmp_path / "a.lock"
    lock = FileLock(path)
    with lock:
        assert lock.acquire()
        path.write_text(content)
        assert holder_of(path) == FileLockHolder(0, {})
    assert holder_of(path) is None
    assert last_note(path) == FileLockHolder(0, {})


def test_stale_note_of_a_living_process(tmp_path: Path) -> None:
    """A file that names a living process is no lock, and the next one simply takes it."""
    path = tmp_path / "a.lock"
    path.write_text(json.dumps({"pid": os.getpid(), "url": "http://old"}))
    assert holder_of(path) is None
    with FileLock(path) as lock:
        assert lock.acquire(timeout=0)


def test_killed_holder(tmp_path: Path) -> None:
    """A holder that is killed blocks nobody."""
    path = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-P", "-c", HOLD, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            assert holder_of(path) == FileLockHolder(process.pid, {"url": "u"})
            assert not FileLock(path).acquire(timeout=0)
        finally:
            process.kill()
    with FileLock(path) as lock:
        assert lock.acquire(timeout=1)


def test_probes_do_not_stand_in_the_way(tmp_path: Path) -> None:
    """Somebody who asks all the time who holds the lock does not keep it from an acquirer."""
    path = tmp_path / "a.lock"
    path.touch()
    code = (
        "import sys; from pathlib import Path; from mosaic_gateway.process.file_lock import holder_of\n"
        "print('go', flush=True)\nwhile True: holder_of(Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", code, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(20):
                with FileLock(path) as lock:
                    assert lock.acquire()
        finally:
            process.kill()


def test_nothing_there(tmp_path: Path) -> None:
    """Where there is no file, or not even a directory, nobody holds a lock and nothing is made."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "a", tmp_path / "no" / "a", tmp_path / "file" / "a"):
        assert holder_of(path) is None
        assert last_note(path) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_links_are_refused(tmp_path: Path) -> None:
    """A link in the lock's place is followed neither by the acquirer nor by who asks."""
    target = tmp_path / "target"
    target.write_text("keep")
    (tmp_path / "a.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        FileLock(tmp_path / "a.lock").acquire()
    assert holder_of(tmp_path / "a.lock") is None
    assert target.read_text() == "keep"


def test_removed_file(tmp_path: Path) -> None:
    """A lock whose file was removed under its holder hides nothing: a new file is a new lock."""
    path = tmp_path / "a.lock"
    with FileLock(path) as old, FileLock(path) as new:
        assert old.acquire()
        path.unlink()
        assert new.acquire(timeout=0)


def test_waits_no_longer_than_asked(tmp_path: Path) -> None:
    """An acquirer gives up when its time is over."""
    path = tmp_path / "a.lock"
    with FileLock(path) as lock:
        assert lock.acquire()
        began = time.monotonic()
        assert not FileLock(path).acquire(timeout=0.1)
        assert 0.1 <= time.monotonic() - began < 2
