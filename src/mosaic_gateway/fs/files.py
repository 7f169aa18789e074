"""Small files of a home: read with bounds, and written beside their target, flushed, renamed (0600 in 0700).

Theory of operation. Several processes may change a home, and one of them may be hostile. So nothing of a home is
opened that is not a regular file, links are not followed, and no more is read than the reader allows: a FIFO would
block it, a device never end, a link lead elsewhere.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import stat
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "LARGE",
    "SMALL",
    "NotARegularFileError",
    "TooLargeError",
    "make_directory",
    "open_descriptor",
    "open_regular",
    "parse_json",
    "parse_toml",
    "read_json",
    "read_regular",
    "remove_file",
    "remove_path",
    "write_file",
]

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
SMALL = 1 << 20  # bytes: settings, secrets, records
LARGE = 64 << 20  # bytes: manifests, which have a line for each file
CHUNK = 1 << 16  # bytes
LONGEST_NUMBER = 64  # digits of a number in a JSON document
NOT_REGULAR = {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR}


class NotARegularFileError(OSError):
    """Where a file belongs lies a link, a FIFO, a device, a socket or a directory."""


class TooLargeError(OSError):
    """A file is larger than what belongs there can be."""


def open_descriptor(path: str | os.PathLike[str], flags: int = os.O_RDONLY, *, dir_fd: int | None = None) -> int:
    """Open the regular file *path*, whose last component may not be a link; one that *flags* create has mode 0600.

    Never blocks. Raises FileNotFoundError, NotADirectoryError, `NotARegularFileError`, OSError.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE_FILE, dir_fd=dir_fd)
    except OSError as error:
        # O_NOFOLLOW: a link; ENXIO: a socket, a FIFO without a reader, or a device without a driver
        if error.errno in NOT_REGULAR:
            what = "a symbolic link" if error.errno == errno.ELOOP else "no regular file"
            raise NotARegularFileError(errno.EINVAL, f"it is {what}", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotARegularFileError(errno.EINVAL, "it is no regular file", str(path))
    return descriptor


def open_regular(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> BinaryIO:
    """Open the regular file *path* for reading. Raises what `open_descriptor` raises."""
    return os.fdopen(open_descriptor(path, dir_fd=dir_fd), "rb", buffering=0)


def read_regular(path: str | os.PathLike[str], limit: int = SMALL, *, dir_fd: int | None = None) -> bytes:
    """Return the content of the regular file *path*, which has at most *limit* bytes.

    Raises what `open_regular` raises, and `TooLargeError`.
    """
    with open_regular(path, dir_fd=dir_fd) as stream:
        size = os.fstat(stream.fileno()).st_size
        content = stream.read(size + 1) if size <= limit else None
        while content is not None and len(content) <= limit:
            more = stream.read(CHUNK)
            if not more:
                return content
            content += more
    raise TooLargeError(errno.EFBIG, f"it is larger than {limit} bytes", str(path))


def read_json(path: str | os.PathLike[str], limit: int = SMALL) -> Any:
    """Return the JSON value in the file *path*. Raises what `read_regular` and `parse_json` raise."""
    return parse_json(read_regular(path, limit))


def parse_json(content: bytes | str) -> Any:
    """Return the JSON value *content*.

    Raises ValueError, also for values nested too deeply to be read, and for an object that has a key twice.
    """
    try:
        return json.loads(content, parse_int=_integer, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return the TOML document *content*. Raises ValueError, also for values nested too deeply to be read."""
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


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


def remove_path(path: Path) -> None:
    """Remove *path* if it is there: a directory with all below it, a link itself. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("a number is too long")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
