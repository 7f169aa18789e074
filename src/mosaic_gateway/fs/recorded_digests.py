"""Verification of files against recorded sizes and hashes (PyPA specification: recording installed projects)."""

from __future__ import annotations

import base64
import csv
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from importlib import metadata

__all__ = ["altered_files_of", "is_as_recorded", "recorded_files", "recorded_hash"]

ALGORITHM = "sha256"
NOT_A_FILE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}


def recorded_files(distribution: metadata.Distribution) -> Iterator[tuple[str, str, int]]:
    """Yield path (below site-packages, with ``/``), hash (``sha256=…``) and size of each file that has a hash."""
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        path, value, size = (*row, "", "")[:3]
        if value.startswith(f"{ALGORITHM}="):
            yield path, value, int(size or -1)


def altered_files_of(distribution: metadata.Distribution) -> tuple[str, ...]:
    """Return the files of *distribution* that are missing or differ from RECORD. Raises OSError.

    Scripts outside site-packages are skipped: ``pip --target`` and copies of an environment put them elsewhere.
    """
    base = str(distribution.locate_file(""))
    return tuple(
        path
        for path, value, size in recorded_files(distribution)
        if not path.startswith("../") and not is_as_recorded(f"{base}/{path}", size, value)
    )


def is_as_recorded(path: str | os.PathLike[str], size: int, value: str | None, *, follow: bool = True) -> bool:
    """Return whether the file *path* has *size* (bytes; -1: unknown) and the hash *value* (None: unknown).

    *value* is ``sha256=…`` as in a RECORD, or 64 hexadecimal digits. With *follow* the file may be a symbolic link,
    because some installers link files into an environment. Never blocks. Raises OSError if it exists and cannot be
    read.
    """
    try:
        # Path methods would cost more than hashing a small file, and there are thousands of files.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except OSError as error:
        if error.errno in NOT_A_FILE:
            return False
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or (size >= 0 and status.st_size != size):
            return False
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as stream:
            return value is None or value in _forms(hashlib.sha256(stream.readall()).digest())
    finally:
        os.close(descriptor)


def recorded_hash(algorithm: str, digest: bytes) -> str:
    """Return *digest* as in RECORD: URL-safe base64 without padding."""
    return f"{algorithm}={base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


def _forms(digest: bytes) -> tuple[str, str]:
    return recorded_hash(ALGORITHM, digest), digest.hex()
