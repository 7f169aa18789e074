"""Small files of a home: bounded reading, and atomic writing (temporary file, fsync, rename(2); 0600 in 0700).

Theory of operation. Several processes may write into a home, and one of them may be hostile. Therefore only regular
files are opened, symbolic links are not followed, and reads have a size limit: a FIFO would block the reader, a device
might never end, and a link could lead to any file.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from mosaic_gateway.fs.staging import staged

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
    "write_file",
]

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
SMALL = 1 << 20  # bytes: settings, secrets, records
LARGE = 64 << 20  # bytes: manifests, which list every file
CHUNK = 1 << 16  # bytes
LONGEST_NUMBER = 64  # digits of an integer in a JSON document
NOT_REGULAR = {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR}


class NotARegularFileError(OSError):
    """The path is a symbolic link, FIFO, device, socket or directory instead of a regular file."""


class TooLargeError(OSError):
    """A file exceeds its size limit."""


def open_descriptor(path: str | os.PathLike[str], flags: int = os.O_RDONLY, *, dir_fd: int | None = None) -> int:
    """Open the regular file *path* and return its descriptor; a file that *flags* create gets mode 0600.

    The last component must not be a symbolic link. Never blocks.
    Raises FileNotFoundError, NotADirectoryError, `NotARegularFileError`, OSError.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, PRIVATE_FILE, dir_fd=dir_fd)
    except OSError as error:
        # O_NOFOLLOW: a link; ENXIO: a socket, a FIFO without a reader, or a device without a driver
        if error.errno in NOT_REGULAR:
            kind = "a symbolic link" if error.errno == errno.ELOOP else "not a regular file"
            raise NotARegularFileError(errno.EINVAL, f"it is {kind}", str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotARegularFileError(errno.EINVAL, "it is not a regular file", str(path))
    return descriptor


def open_regular(path: str | os.PathLike[str], *, dir_fd: int | None = None) -> BinaryIO:
    """Open the regular file *path* for reading. Raises what `open_descriptor` raises."""
    return os.fdopen(open_descriptor(path, dir_fd=dir_fd), "rb", buffering=0)


def read_regular(path: str | os.PathLike[str], limit: int = SMALL, *, dir_fd: int | None = None) -> bytes:
    """Return the content of the regular file *path*, at most *limit* bytes.

    Raises `TooLargeError` for a larger file, and what `open_regular` raises.
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
    """Parse *content* and return the JSON value.

    Raises ValueError, also for too deep nesting, duplicate keys, NaN, Infinity and integers of more than 64 digits.
    """
    try:
        return json.loads(content, parse_int=_integer, parse_constant=_refuse_constant, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(content: bytes) -> dict[str, Any]:
    """Parse *content* and return the TOML document. Raises ValueError, also for too deep nesting."""
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def make_directory(path: Path, mode: int = PRIVATE_DIRECTORY) -> None:
    """Create *path* and its missing parents, each with exactly *mode*, regardless of the umask.

    An existing directory keeps its mode. Raises OSError.
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
    """Replace *path* with *data* atomically: readers see the old or the new file, also after a crash.

    Calls fsync on the file before rename(2) and on its directory after it. Raises OSError, after
    removing the temporary file.
    """
    content = data.encode() if isinstance(data, str) else data
    with staged(path) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())


def remove_file(path: Path) -> None:
    """Remove *path* if it exists. Raises OSError."""
    path.unlink(missing_ok=True)


def _integer(text: str) -> int:
    if len(text) > LONGEST_NUMBER:
        raise ValueError("a number is too long")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a key twice")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
