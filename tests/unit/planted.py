"""File types and contents that another process can put in place of a file, for tests of code that reads a home."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mosaic_gateway.fs.files import LARGE

__all__ = ["NOT_REGULAR", "PLANTED", "within"]

T = TypeVar("T")
LIMIT = 10.0  # seconds
DEEP = 100_000  # brackets


def within(call: Callable[[], T]) -> T:
    """Return what *call* returns, or raise what it raises; fail if it does not return within `LIMIT`."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT)
    assert not thread.is_alive(), "it blocks"
    if errors:
        raise errors[0]
    return results[0]


def _link(path: Path) -> None:
    other = path.with_name("other")
    other.write_text("{}")
    path.symlink_to(other)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))  # a socket's path must be short


def _large(path: Path) -> None:
    path.write_text('{"a": "')
    os.truncate(path, LARGE + 1)


#: File types other than a regular file: how to create one at a path.
NOT_REGULAR: dict[str, Callable[[Path], object]] = {
    "link": _link,
    "link to itself": lambda path: path.symlink_to(path.name),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "fifo": os.mkfifo,
    "directory": lambda path: path.mkdir(),
    "socket": _socket,
}
#: The same, and regular files with unusable content.
PLANTED: dict[str, Callable[[Path], object]] = {
    **NOT_REGULAR,
    "too large": _large,
    "too deep": lambda path: path.write_text("[" * DEEP),
    "key twice": lambda path: path.write_text('{"a": 1, "a": 2}'),
    "no text": lambda path: path.write_bytes(b'{"a": "\xff"}'),
    "no object": lambda path: path.write_text("[]"),
    "no number": lambda path: path.write_text('{"a": NaN}'),
    "long number": lambda path: path.write_text(f'{{"a": {"9" * 5000}}}'),
    "empty": lambda path: path.touch(),
}
