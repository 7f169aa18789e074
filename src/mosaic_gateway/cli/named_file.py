"""Files that a person names on the command line, read where the person may read them."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import IO

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.errors import UsageError
from mosaic_gateway.process.root_requests import Broker, Request

__all__ = ["OUR_DESCRIPTOR", "NamedFileError", "read_all", "read_named_file"]

LARGEST = 64 * 1024  # bytes
#: How a shell names what it has opened for the command: ``--password-file <(…)``, ``--password-file /dev/stdin``.
OUR_DESCRIPTOR = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/(\d+)")


class NamedFileError(UsageError):
    """A file that was named cannot be read or made."""

    code = "NAMED_FILE"


def read_named_file(option: str, path: Path, invocation: Invocation | None) -> bytes:
    """Return the content of the file *path* that *option* names; root's process reads what only root may.

    Raises `NamedFileError`.
    """
    broker = invocation.broker if invocation is not None else None
    try:
        if broker is not None and OUR_DESCRIPTOR.fullmatch(str(path)):
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
    """Return what *stream*, which *path* names, still holds. Raises `NamedFileError` if it is too much, OSError."""
    content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise NamedFileError(f"{path} is larger than {LARGEST} bytes")
    return content
