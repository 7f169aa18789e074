"""Files that a person names on the command line, read where the person may read them."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import IO

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.errors import UsageError
from mosaic_gateway.root_requests import Request

__all__ = ["NamedFileError", "read_all", "read_named_file"]

LARGEST = 64 * 1024  # bytes


class NamedFileError(UsageError):
    """A file that was named cannot be read or made."""

    code = "NAMED_FILE"


def read_named_file(option: str, path: Path, invocation: Invocation | None) -> bytes:
    """Return the content of the file *path* that *option* names; root's process reads what only root may.

    Raises `NamedFileError`.
    """
    try:
        with path.open("rb") as stream:
            return read_all(stream, path)
    except OSError as error:
        if invocation is not None and invocation.broker is not None:
            return base64.b64decode(invocation.broker.ask(Request.READ_INPUT, {"option": option})[0]["content"])
        raise NamedFileError(f"{path} cannot be read: {error.strerror}") from error


def read_all(stream: IO[bytes], path: Path) -> bytes:
    """Return what *stream*, which *path* names, still holds. Raises `NamedFileError` if it is too much, OSError."""
    content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise NamedFileError(f"{path} is larger than {LARGEST} bytes")
    return content
