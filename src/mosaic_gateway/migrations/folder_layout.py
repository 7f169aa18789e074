"""drizzle-kit 1.0's layout: ``<UTC time in 14 digits>_<name>/migration.sql`` for each migration, no journal. Pure.

Source: drizzle-orm 1.0.0-rc.5, ``migrator.ts`` and ``migrator.utils.ts``. Every subfolder with a ``migration.sql``
is a migration; the first 14 characters of its name are ``when``, as JavaScript's ``Date.UTC`` reads them; they run in
the order of ``localeCompare``. drizzle-kit's ``snapshot.json`` is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from mosaic_gateway.migrations.parse import JournalEntry, JournalFormatError

__all__ = ["folder_entries", "folder_name", "names_real_time"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIME = re.compile("([0-9]{4})" + "([0-9]{2})" * 5)
LAST_SHORT_YEAR = 99  # Date.UTC takes the years 0 to 99 for 1900 to 1999
LAST_MONTH = 9999 * 12 + 11  # that Python has
#: ASCII in the order of the Unicode collation; letters first without regard to case.
COLLATION = " _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789abcdefghijklmnopqrstuvwxyz"


def folder_entries(names: Iterable[str]) -> tuple[JournalEntry, ...]:
    """Return the migrations among the files *names* in the order in which they run.

    Raises `JournalFormatError` for a ``migration.sql`` in a folder whose name does not begin with a time: drizzle-orm
    runs such a file, and then fails to record it.
    """
    tags = sorted((name.split("/")[0] for name in names if name.partition("/")[2] == "migration.sql"), key=_collation)
    return tuple(JournalEntry(tag, _when(tag), folder=True) for tag in tags)


def folder_name(when: int, name: str) -> str:
    """Return the folder name of migration *name*; *when* is in milliseconds since the epoch."""
    return f"{EPOCH + timedelta(milliseconds=when):%Y%m%d%H%M%S}_{name}"


def names_real_time(tag: str) -> bool:
    """Return whether a folder's name begins with a time that exists: there is no 13th month."""
    match = TIME.match(tag)
    try:
        year, month, day, hour, minute, second = map(int, match.groups() if match else ())
        datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return False
    return True


def _when(tag: str) -> int:
    """Return the time of a folder's name in milliseconds, with the overflows of ``Date.UTC``."""
    match = TIME.match(tag)
    year, month, *rest = map(int, match.groups()) if match else (0, 0)
    months = (year if year > LAST_SHORT_YEAR else year + 1900) * 12 + month - 1
    if match is None or months > LAST_MONTH:
        raise JournalFormatError(f"{tag}/migration.sql: the folder's name does not begin with a UTC time of 14 digits")
    day, hour, minute, second = rest
    days = date(months // 12, months % 12 + 1, 1).toordinal() - EPOCH.toordinal() + day - 1
    return (((days * 24 + hour) * 60 + minute) * 60 + second) * 1000


def _collation(tag: str) -> tuple[list[int], str]:
    """Return the sort key of `String.prototype.localeCompare` for ASCII: a lower-case letter is before its capital."""
    return [COLLATION.find(letter) if letter.isascii() else ord(letter) for letter in tag.lower()], tag.swapcase()
