from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mosaic_gateway.errors import MosaicError
from mosaic_gateway.process.command import CommandFailedError
from mosaic_gateway.process.disk_full import OTHER_HOME, DiskFullError, disk_full_as, is_full_disk

PLACE = Path("/a/b")


class ServerError(Exception):
    """An error with an SQLSTATE, as the driver raises it."""

    sqlstate = "53100"


def caused(cause: BaseException) -> MosaicError:
    """Return an error that *cause* has caused."""
    error = MosaicError("it failed", details={"log": "/l"})
    error.__cause__ = MosaicError("below")
    error.__cause__.__cause__ = cause
    return error


FULL = [
    OSError(errno.ENOSPC, "x"),
    OSError(errno.EDQUOT, "x"),
    ServerError(),
    CommandFailedError("initdb: error: could not write to file: No space left on device"),
    MosaicError("PGlite did not start: ENOSPC: write"),
    caused(OSError(errno.ENOSPC, "x")),
    caused(ServerError()),
]


@pytest.mark.parametrize("error", FULL)
def test_a_full_disk_is_recognized(error: Exception) -> None:
    """By its number, SQLSTATE or text, also in a cause; the new error says what was written where."""
    assert is_full_disk(error)
    text = "Not enough disk space for the copy in /a/b"
    with pytest.raises(DiskFullError, match=text) as caught, disk_full_as("the copy", PLACE, hint=OTHER_HOME):
        raise error
    assert caught.value.__cause__ is error
    assert (caught.value.code, caught.value.exit_code, caught.value.hint) == ("DISK_FULL", 3, OTHER_HOME)
    local = isinstance(error, OSError | CommandFailedError)
    assert ("incomplete files were removed" in caught.value.message) is local
    assert (str(error) in caught.value.message) is (not local)
    assert caught.value.details == (error.details if isinstance(error, MosaicError) else {})


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), MosaicError("y"), ValueError(), KeyboardInterrupt()])
def test_other_errors_are_raised_as_they_are(error: BaseException) -> None:
    """Also an interruption."""
    assert not is_full_disk(error)
    with pytest.raises(type(error)) as caught, disk_full_as("the copy", PLACE):
        raise error
    assert caught.value is error


def test_the_innermost_translation_is_retained() -> None:
    """It knows best what was written where."""
    with (
        pytest.raises(DiskFullError, match="the part in /a/b/c"),
        disk_full_as("the whole", PLACE),
        disk_full_as("the part", PLACE / "c"),
    ):
        raise OSError(errno.ENOSPC, "x")
