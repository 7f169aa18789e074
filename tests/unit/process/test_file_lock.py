"""Lock files: the state of the lock comes from the kernel, not from the content of the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mosaic_gateway.process.file_lock import FileLock, FileLockHolder, holder_of, last_note

#: Acquires the lock argv[1], reports it, and holds it until it is killed.
HOLD = (
    "import sys, time; from pathlib import Path; from mosaic_gateway.process.file_lock import FileLock;"
    "lock = FileLock(Path(sys.argv[1])); assert lock.acquire(url='u'); print('held', flush=True); time.sleep(60)"
)


def test_acquire_and_release(tmp_path: Path) -> None:
    """Only one process holds the lock, its note can be read, and release frees the lock."""
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
    """A note cannot be written without holding the lock."""
    with pytest.raises(ValueError, match="not held"):
        FileLock(tmp_path / "a.lock").note()


def test_private(tmp_path: Path) -> None:
    """The file has mode 0600, and children do not inherit the descriptor."""
    lock = FileLock(tmp_path / "a.lock")
    with lock:
        assert lock.acquire()
        assert lock.path.stat().st_mode & 0o777 == 0o600
        assert lock._descriptor is not None
        assert not os.get_inheritable(lock._descriptor)


@pytest.mark.parametrize("content", ["", "x", "[]", "{}", '{"pid": "x"}', '{"pid": null}', "1", "\xff" * 5000])
def test_damaged_note(tmp_path: Path, content: str) -> None:
    """A damaged note is a holder with pid 0 while the lock is held, and no holder afterwards."""
    path = tmp_path / "a.lock"
    lock = FileLock(path)
    with lock:
        assert lock.acquire()
        path.write_text(content)
        assert holder_of(path) == FileLockHolder(0, {})
    assert holder_of(path) is None
    assert last_note(path) == FileLockHolder(0, {})


def test_stale_note_of_a_living_process(tmp_path: Path) -> None:
    """A file that names a running process is not a lock; another process can acquire it."""
    path = tmp_path / "a.lock"
    path.write_text(json.dumps({"pid": os.getpid(), "url": "http://old"}))
    assert holder_of(path) is None
    with FileLock(path) as lock:
        assert lock.acquire(timeout=0)


def test_killed_holder(tmp_path: Path) -> None:
    """The lock of a killed holder can be acquired."""
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


def test_probes_do_not_block_acquirers(tmp_path: Path) -> None:
    """A process that calls `holder_of` continuously does not prevent acquiring the lock."""
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


def test_missing_file(tmp_path: Path) -> None:
    """Without a file or its directory there is no holder, and nothing is created."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "a", tmp_path / "no" / "a", tmp_path / "file" / "a"):
        assert holder_of(path) is None
        assert last_note(path) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_links_are_refused(tmp_path: Path) -> None:
    """A symbolic link is not followed, neither when acquiring nor when probing."""
    target = tmp_path / "target"
    target.write_text("keep")
    (tmp_path / "a.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        FileLock(tmp_path / "a.lock").acquire()
    assert holder_of(tmp_path / "a.lock") is None
    assert target.read_text() == "keep"


def test_removed_file(tmp_path: Path) -> None:
    """If the file of a held lock is removed, a new file is a new lock."""
    path = tmp_path / "a.lock"
    with FileLock(path) as old, FileLock(path) as new:
        assert old.acquire()
        path.unlink()
        assert new.acquire(timeout=0)


def test_acquire_timeout(tmp_path: Path) -> None:
    """Acquiring fails when the timeout has expired."""
    path = tmp_path / "a.lock"
    with FileLock(path) as lock:
        assert lock.acquire()
        began = time.monotonic()
        assert not FileLock(path).acquire(timeout=0.1)
        assert 0.1 <= time.monotonic() - began < 2
