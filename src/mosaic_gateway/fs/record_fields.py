"""Records on disk (JSON objects), each field checked when it is read.

Other processes may write what lies in a home, so that nothing of a record is used before it has the form that it must
have. A record that has not is one error, which names file and field.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.files import SMALL, NotARegularFileError, TooLargeError, parse_json, read_regular

__all__ = [
    "BACKUP_NAME",
    "INSTANCE_ID",
    "LARGEST_PID",
    "PROGRAM_NAME",
    "VERSION",
    "ClosedRecordError",
    "Field",
    "RecordError",
    "any_text",
    "boolean",
    "checked_record",
    "choice",
    "digest",
    "entries",
    "integer",
    "mapping",
    "matching",
    "member",
    "moment",
    "naming_the_file",
    "nested",
    "number",
    "optional",
    "path_text",
    "read_content",
    "read_object",
    "read_record",
    "relative_path",
    "row",
    "text",
    "whole",
]

E = TypeVar("E", bound=Enum)
#: Returns the value in its right form. Raises ValueError, whose text says what a right value is.
Check = Callable[[Any], Any]

INSTANCE_ID = re.compile(r"[0-9a-f]{16}")
#: PEP 440, without the epoch, which no version of ours has.
VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-zA-Z0-9.]+)?", re.ASCII)
#: UTC stamp and the gateway's version: 20261125T134500Z-0.1.0
BACKUP_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9A-Za-z.+!_]+(-\d+)?", re.ASCII)
#: The name of a copy of the gateway among the programs of an installation.
PROGRAM_NAME = re.compile(r"gateway-[\w.+!]+")
LARGEST_PID = (1 << 31) - 1  # pid_t
LONGEST_TEXT = 4096  # characters
LONGEST_PATH = 4096  # PATH_MAX
LONGEST_TIME = 64  # characters
MOST_ENTRIES = 1_000_000
LARGEST_NUMBER = 1 << 64


class RecordError(RefusedError):
    """A record in a home is not what it must be; the message names file and field."""

    code = "RECORD_INVALID"

    def __init__(self, file: Path, field: str, why: str, *, hint: str = "") -> None:
        named = f"the field {field!r} of {file}" if field else str(file)
        super().__init__(
            f"{named} cannot be used: {why}",
            hint=hint or "Nothing was changed. Restore the file from a backup.",
            details={"file": str(file), "field": field},
        )


class ClosedRecordError(RecordError):
    """This user may not read the file."""


@dataclass(frozen=True, slots=True)
class Field:
    """What a field must be. One that is missing has *default*; without one it must be there."""

    check: Check
    default: Any = ...

    def of(self, record: Mapping[str, Any], name: str) -> Any:
        """Return the field *name* of *record* in its right form. Raises ValueError, and what the check raises."""
        if name in record:
            return self.check(record[name])
        if self.default is ...:
            raise ValueError("it is missing")
        return self.default


def read_record(file: Path, fields: Mapping[str, Field], *, limit: int = SMALL, hint: str = "") -> dict[str, Any]:
    """Return the *fields* of the record in *file*, each in its right form; other keys are left out.

    Raises what `read_content` raises.
    """
    return checked_record(file, read_object(file, limit=limit, hint=hint), fields, hint=hint)


def read_object(file: Path, *, limit: int = SMALL, hint: str = "") -> dict[str, Any]:
    """Return the JSON object in *file*, its values as they are. Raises what `read_content` raises."""
    content = read_content(file, limit=limit, hint=hint)
    try:
        value = parse_json(content)
    except ValueError as error:
        raise RecordError(file, "", f"it is not JSON ({error})", hint=hint) from error
    if not isinstance(value, dict):
        raise RecordError(file, "", "it is not a JSON object", hint=hint)
    return value


def read_content(file: Path, *, limit: int = SMALL, hint: str = "") -> bytes:
    """Return the content of *file*.

    Raises FileNotFoundError and NotADirectoryError; `RecordError` for what is no regular file or has more than *limit*
    bytes; `ClosedRecordError`; OSError.
    """
    with naming_the_file(file, hint=hint):
        return read_regular(file, limit)


@contextmanager
def naming_the_file(file: Path, *, hint: str = "") -> Iterator[None]:
    """Raise `RecordError` where the block, which opens or reads *file*, finds that no file of ours can be there."""
    try:
        yield
    except PermissionError as error:
        raise ClosedRecordError(file, "", "it is closed to this user", hint=hint) from error
    except (NotARegularFileError, TooLargeError) as error:
        raise RecordError(file, "", str(error.strerror), hint=hint) from error


def checked_record(file: Path, value: Any, fields: Mapping[str, Field], *, hint: str = "") -> dict[str, Any]:
    """Return the *fields* of *value*, which was read from *file*. Raises `RecordError`."""
    if not isinstance(value, dict):
        raise RecordError(file, "", "it is not a JSON object", hint=hint)
    found: dict[str, Any] = {}
    for name, field in fields.items():
        try:
            found[name] = field.of(value, name)
        except (ValueError, TypeError, OverflowError) as error:
            raise RecordError(file, name, str(error), hint=hint) from error
    return found


def text(value: Any) -> str:
    """Check a text without control characters."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise ValueError("it must be a text without control characters")
    return value


def any_text(value: Any) -> str:
    """Check a text of whatever characters; how long it may be, the size of its file says."""
    if not isinstance(value, str):
        raise ValueError("it must be a text")  # noqa: TRY004 - one kind of error for all checks
    return value


def matching(pattern: re.Pattern[str], what: str) -> Check:
    """Return the check of a text that *pattern* matches as a whole; *what* names such texts."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT or not pattern.fullmatch(value):
            raise ValueError(f"it must be {what}")
        return value

    return check


#: Checks a SHA-256.
digest = matching(re.compile(r"[0-9a-f]{64}"), "a digest of 64 hexadecimal digits")


def boolean(value: Any) -> bool:
    """Check true or false."""
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")  # noqa: TRY004 - one kind of error for all checks
    return value


def whole(least: int, most: int) -> Check:
    """Return the check of a whole number from *least* to *most*."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"it must be a whole number from {least} to {most}")
        return value

    return check


#: Checks a whole number from 0 to 2**64 - 1.
integer = whole(0, LARGEST_NUMBER - 1)


def number(value: Any) -> float:
    """Check a number that is not negative."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < LARGEST_NUMBER:
        raise ValueError("it must be a number that is not negative")
    return float(value)


def member(kind: type[E]) -> Check:
    """Return the check of a value of the enumeration *kind*."""

    def check(value: Any) -> E:
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"it must be one of {', '.join(str(one.value) for one in kind)}") from None

    return check


def choice(*values: str) -> Check:
    """Return the check of one of the texts *values*."""
    return matching(re.compile("|".join(map(re.escape, values))), f"one of {', '.join(values)}")


def moment(value: Any) -> str:
    """Check an ISO 8601 time with its offset."""
    if isinstance(value, str) and len(value) <= LONGEST_TIME:
        with suppress(ValueError):
            if datetime.fromisoformat(value).tzinfo is not None:
                return value
    raise ValueError("it must be a time with its offset (ISO 8601)")


def optional(check: Check) -> Check:
    """Return the check of what may also be null."""
    return lambda value: None if value is None else check(value)


def entries(check: Check, *, most: int = MOST_ENTRIES) -> Check:
    """Return the check of a list of at most *most* values; the result is a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError("it must be a list")
        return tuple(check(one) for one in value)

    return check_all


def row(*checks: Check) -> Check:
    """Return the check of a list with one value for each of *checks*; the result is a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(checks):
            raise ValueError(f"it must be a list of {len(checks)} values")
        return tuple(check(one) for check, one in zip(checks, value, strict=True))

    return check_all


def mapping(key: Check, check: Check, *, most: int = MOST_ENTRIES) -> Check:
    """Return the check of an object of at most *most* values, whatever their keys, as far as *key* lets them pass."""

    def check_all(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise ValueError("it must be an object")
        return {key(name): check(one) for name, one in value.items()}

    return check_all


def nested(fields: Mapping[str, Field]) -> Check:
    """Return the check of an object with these *fields*; other keys are left out."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("it must be an object")  # noqa: TRY004 - one kind of error for all checks
        found = {}
        for name, field in fields.items():
            try:
                found[name] = field.of(value, name)
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"{name}: {error}") from error
        return found

    return check


def path_text(value: Any) -> str:
    """Check an absolute path without ``..``."""
    if not isinstance(value, str) or not value.startswith("/") or "/../" in f"{value}/" or not _is_path(value):
        raise ValueError("it must be an absolute path without '..'")
    return value


def relative_path(value: Any) -> str:
    """Check a path that stays below where it begins."""
    names = f"/{value}/"  # searched as a text, because manifests have thousands of paths
    if not isinstance(value, str) or "//" in names or "/./" in names or "/../" in names or not _is_path(value):
        raise ValueError("it must be a relative path that stays below its directory")
    return value


def _is_path(text: str) -> bool:
    """Return whether the system takes *text* for a path; UnicodeEncodeError says that it does not."""
    return "\0" not in text and len(text if text.isascii() else os.fsencode(text)) <= LONGEST_PATH
