"""Small durable files: written beside their target, flushed, renamed; 0600 in directories of 0700."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

__all__ = ["make_directory", "remove_file", "write_file"]

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def make_directory(path: Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Make *path* and its missing parents, each with exactly *mode*, whatever the umask is.

    A directory that is already there keeps its mode. Raises OSError.
    """
    missing = []
    current = path
    while not current.exists():
        missing.append(current)
        current = current.parent
    for directory in reversed(missing):
        with suppress(FileExistsError):
            directory.mkdir(mode=mode)
            directory.chmod(mode)
    if not path.is_dir():
        raise NotADirectoryError(20, "not a directory", str(path))


def write_file(path: Path, data: str | bytes, mode: int = PRIVATE_FILE) -> None:
    """Replace *path* with *data* so that a reader, or a crash, sees the old file or the new one.

    The bytes are on disk before the rename, the rename before the return. Raises OSError, and then
    leaves no temporary file behind.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def remove_file(path: Path) -> None:
    """Remove *path* if it is there. Raises OSError."""
    path.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
