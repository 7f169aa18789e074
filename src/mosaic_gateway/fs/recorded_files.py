"""Installed files against what was recorded of them (RECORD, as in the specification of installed projects)."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
from collections.abc import Iterator
from importlib import metadata

__all__ = ["altered_files_of", "is_as_recorded", "recorded_files"]

ALGORITHM = "sha256"


def recorded_files(distribution: metadata.Distribution) -> Iterator[tuple[str, str, int]]:
    """Yield path (below site-packages, with ``/``), hash (``sha256=…``) and size of each file that has a hash."""
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        path, value, size = (*row, "", "")[:3]
        if value.startswith(f"{ALGORITHM}="):
            yield path, value, int(size or -1)


def altered_files_of(distribution: metadata.Distribution) -> tuple[str, ...]:
    """Return the files of *distribution* that are missing or not as they were installed. Raises OSError.

    Commands beside site-packages are left out: ``pip --target`` and copies of an environment put them elsewhere.
    """
    base = str(distribution.locate_file(""))
    return tuple(
        path
        for path, value, size in recorded_files(distribution)
        if not path.startswith("../") and not is_as_recorded(f"{base}/{path}", size, value)
    )


def is_as_recorded(path: str | os.PathLike[str], size: int, value: str | None) -> bool:
    """Return whether the file *path* has *size* (bytes; -1: unknown) and the hash *value* (None: unknown).

    Links are followed: installers may make an environment of them. Never blocks. Raises OSError where it is there and
    cannot be read.
    """
    try:
        # Not Path's own ways, which cost more than the hash of a small file, and there are thousands.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (size >= 0 and status.st_size != size):
            return False
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
            return value is None or _hash(stream.readall()) == value
    finally:
        os.close(descriptor)


def _hash(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return f"{ALGORITHM}={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"
