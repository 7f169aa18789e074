"""Reads files that are named on the command line, with the permissions of the calling user."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import IO

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.errors import UsageError
from mosaic_gateway.process.root_requests import Broker, Request

__all__ = ["INHERITED_DESCRIPTOR", "NamedFileError", "read_all", "read_named_file"]

LARGEST = 64 * 1024  # bytes
#: Paths of inherited file descriptors: ``--password-file <(…)`` (process substitution), ``--password-file /dev/stdin``.
INHERITED_DESCRIPTOR = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/(\d+)")


class NamedFileError(UsageError):
    """A file named on the command line cannot be read or created."""

    code = "NAMED_FILE"


def read_named_file(option: str, path: Path, invocation: Invocation | None) -> bytes:
    """Return the content of the file *path* given for *option*. Root's process reads a file that only root may read.

    Raises `NamedFileError`.
    """
    broker = invocation.broker if invocation is not None else None
    try:
        if broker is not None and INHERITED_DESCRIPTOR.fullmatch(str(path)):
            return _read_by_root(broker, option)
        with path.open("rb") as stream:
            return read_all(stream, path)
    except OSError as error:
        if broker is not None:
            return _read_by_root(broker, option)
        raise NamedFileError(f"{path} cannot be read: {error.strerror}") from error


def _read_by_root(broker: Broker, option: str) -> bytes:
    return base64.b64decode(broker.ask(Request.READ_INPUT, {"option": option})[0]["content"])


def read_all(stream: IO[bytes], path: Path) -> bytes:
    """Return the rest of *stream*, opened from *path*. Raises `NamedFileError` above `LARGEST` bytes, OSError."""
    content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise NamedFileError(f"{path} is larger than {LARGEST} bytes")
    return content
