"""A full disk or an exhausted quota: recognized in errors of every kind, and translated into `DiskFullError`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.hint import Text
from mosaic_gateway.process.command import CommandFailedError

__all__ = ["FREE_SPACE", "OTHER_HOME", "DiskFullError", "disk_full_as", "is_full_disk"]

#: Hints: for an existing installation, and for what may also be installed elsewhere.
FREE_SPACE = "Free disk space there, then run the command again."
OTHER_HOME = "Free disk space there, or choose another --home, then run the command again."
NUMBERS = {errno.ENOSPC, errno.EDQUOT}
#: In messages: strerror(3) as in PostgreSQL's programs, error codes of Node.js.
TEXTS = ("No space left on device", "ENOSPC", "Disk quota exceeded", "EDQUOT")
SQLSTATE = "53100"  # disk_full: PostgreSQL's manual, appendix A


class DiskFullError(PreflightError):
    """The disk is full."""

    code = "DISK_FULL"


@contextmanager
def disk_full_as(what: str, place: Path, *, hint: Text = FREE_SPACE) -> Iterator[None]:
    """Raise `DiskFullError` if a full disk makes the block fail, which writes *what* into *place*.

    The message of a server, or of a gateway that was started, is included: its disk may be another one.
    """
    try:
        yield
    except DiskFullError:
        raise
    except Exception as error:
        if not is_full_disk(error):
            raise
        message = f"Not enough disk space for {what} in {place}"
        if isinstance(error, OSError | CommandFailedError):
            message = f"{message}; the incomplete files were removed"
        else:
            message = f"{message} or on the database's disk: {error}"
        details = error.details if isinstance(error, MosaicError) else None
        raise DiskFullError(message, hint=hint, details=details) from error


def is_full_disk(error: BaseException) -> bool:
    """Return whether *error*, or one of its causes, reports a full disk."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NUMBERS:
            return True
        if getattr(cause, "sqlstate", None) == SQLSTATE or any(words in str(cause) for words in TEXTS):
            return True
        cause = cause.__cause__
    return False
