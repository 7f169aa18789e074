"""Reading and validation of records on disk (JSON objects).

Other processes may write into a home. Therefore every field of a record is validated before it is used. An invalid
record raises `RecordError`, which names the file and the field.
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

from mosaic_gateway.errors import MosaicError, RefusedError
from mosaic_gateway.fs.files import SMALL, NotARegularFileError, TooLargeError, parse_json, read_regular
from mosaic_gateway.fs.permissions import NotPermittedError, access_denied, user_name
from mosaic_gateway.hint import Text

__all__ = [
    "BACKUP_NAME",
    "INSTANCE_ID",
    "LARGEST_PID",
    "PROGRAM_NAME",
    "VERSION",
    "Field",
    "RecordError",
    "UnreadableRecordError",
    "any_text",
    "boolean",
    "checked_record",
    "choice",
    "digest",
    "entries",
    "integer",
    "integer_between",
    "mapping",
    "matching",
    "member",
    "nested",
    "number",
    "optional",
    "path_text",
    "read_content",
    "read_object",
    "read_record",
    "record_errors_for",
    "relative_path",
    "row",
    "text",
    "timestamp",
    "version",
]

E = TypeVar("E", bound=Enum)
#: Validates a value and returns it, converted if necessary. Raises ValueError, whose text says what is valid.
Check = Callable[[Any], Any]

INSTANCE_ID = re.compile(r"[0-9a-f]{16}")
#: PEP 440 without an epoch, which versions of mosaic-gateway do not use.
VERSION = re.compile(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-zA-Z0-9.]+)?", re.ASCII)
#: UTC timestamp and version of the gateway: 20261125T134500Z-0.1.0
BACKUP_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9A-Za-z.+!_]+(-\d+)?", re.ASCII)
#: Directory name of a program copy of the gateway.
PROGRAM_NAME = re.compile(r"gateway-[\w.+!]+")
LARGEST_PID = (1 << 31) - 1  # pid_t
LONGEST_TEXT = 4096  # characters
LONGEST_PATH = 4096  # PATH_MAX
LONGEST_TIME = 64  # characters
MOST_ENTRIES = 1_000_000
LARGEST_NUMBER = 1 << 64


class RecordError(RefusedError):
    """A record in a home is invalid; the message names the file and the field."""

    code = "RECORD_INVALID"

    def __init__(self, file: Path, field: str, why: str, *, hint: Text = "") -> None:
        subject = f"the field {field!r} of {file}" if field else str(file)
        super().__init__(
            f"{subject} is invalid: {why}",
            hint=hint or "Nothing was changed. Restore the file from a backup.",
            details={"file": str(file), "field": field},
        )


class UnreadableRecordError(RecordError):
    """This user has no permission to read the file, which may well be valid; the message names the owner."""

    def __init__(self, file: Path, error: PermissionError) -> None:
        super().__init__(file, "", str(error.strerror))
        self.code = NotPermittedError.code
        denied = access_denied(file, f"{user_name(os.geteuid())} has no permission to read {file}")
        MosaicError.__init__(self, denied.message, hint=denied.hint, details=denied.details)


@dataclass(frozen=True, slots=True)
class Field:
    """The check of a field. A field that is missing has *default*; without a default it is required."""

    check: Check
    default: Any = ...

    def of(self, record: Mapping[str, Any], name: str) -> Any:
        """Validate the field *name* of *record* and return its value. Raises ValueError, and what the check raises."""
        if name in record:
            return self.check(record[name])
        if self.default is ...:
            raise ValueError("it is missing")
        return self.default


def read_record(file: Path, fields: Mapping[str, Field], *, limit: int = SMALL, hint: Text = "") -> dict[str, Any]:
    """Read the record in *file* and return its validated *fields*; other keys are ignored.

    Raises what `read_content` raises.
    """
    return checked_record(file, read_object(file, limit=limit, hint=hint), fields, hint=hint)


def read_object(file: Path, *, limit: int = SMALL, hint: Text = "") -> dict[str, Any]:
    """Return the JSON object in *file* without validation of its fields. Raises what `read_content` raises."""
    content = read_content(file, limit=limit, hint=hint)
    try:
        value = parse_json(content)
    except ValueError as error:
        raise RecordError(file, "", f"it is not JSON ({error})", hint=hint) from error
    if not isinstance(value, dict):
        raise RecordError(file, "", "it is not a JSON object", hint=hint)
    return value


def read_content(file: Path, *, limit: int = SMALL, hint: Text = "") -> bytes:
    """Return the content of *file*.

    Raises FileNotFoundError and NotADirectoryError; `RecordError` if it is not a regular file or has more than *limit*
    bytes; `UnreadableRecordError`; OSError.
    """
    with record_errors_for(file, hint=hint):
        return read_regular(file, limit)


@contextmanager
def record_errors_for(file: Path, *, hint: Text = "") -> Iterator[None]:
    """Translate errors of a block that opens or reads *file*: permission denied, not a regular file, too large."""
    try:
        yield
    except PermissionError as error:
        raise UnreadableRecordError(file, error) from error
    except (NotARegularFileError, TooLargeError) as error:
        raise RecordError(file, "", str(error.strerror), hint=hint) from error


def checked_record(file: Path, value: Any, fields: Mapping[str, Field], *, hint: Text = "") -> dict[str, Any]:
    """Return the validated *fields* of *value*, which was read from *file*. Raises `RecordError`."""
    if not isinstance(value, dict):
        raise RecordError(file, "", "it is not a JSON object", hint=hint)
    checked: dict[str, Any] = {}
    for name, field in fields.items():
        try:
            checked[name] = field.of(value, name)
        except (ValueError, TypeError, OverflowError) as error:
            raise RecordError(file, name, str(error), hint=hint) from error
    return checked


def text(value: Any) -> str:
    """Check a string without control characters, at most `LONGEST_TEXT` characters."""
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise ValueError("it must be a string without control characters")
    return value


def any_text(value: Any) -> str:
    """Check a string of any characters; only the size limit of its file bounds its length."""
    if not isinstance(value, str):
        raise ValueError("it must be a string")  # noqa: TRY004 - one kind of error for all checks
    return value


def matching(pattern: re.Pattern[str], what: str) -> Check:
    """Return a check for a string that *pattern* matches fully; *what* describes such strings in errors."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT or not pattern.fullmatch(value):
            raise ValueError(f"it must be {what}")
        return value

    return check


#: Checks a SHA-256 digest.
digest = matching(re.compile(r"[0-9a-f]{64}"), "a digest of 64 hexadecimal digits")
#: Checks a version of the gateway.
version = matching(VERSION, "a version")


def boolean(value: Any) -> bool:
    """Check true or false."""
    if not isinstance(value, bool):
        raise ValueError("it must be true or false")  # noqa: TRY004 - one kind of error for all checks
    return value


def integer_between(least: int, most: int) -> Check:
    """Return a check for an integer from *least* to *most*."""

    def check(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"it must be an integer from {least} to {most}")
        return value

    return check


#: Checks an integer from 0 to 2**64 - 1.
integer = integer_between(0, LARGEST_NUMBER - 1)


def number(value: Any) -> float:
    """Check a number that is not negative."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < LARGEST_NUMBER:
        raise ValueError("it must be a number that is not negative")
    return float(value)


def member(kind: type[E]) -> Check:
    """Return a check for a value of the enumeration *kind*."""

    def check(value: Any) -> E:
        try:
            return kind(value)
        except ValueError:
            raise ValueError(f"it must be one of {', '.join(str(one.value) for one in kind)}") from None

    return check


def choice(*values: str) -> Check:
    """Return a check for one of the strings *values*."""
    return matching(re.compile("|".join(map(re.escape, values))), f"one of {', '.join(values)}")


def timestamp(value: Any) -> str:
    """Check an ISO 8601 timestamp with a UTC offset."""
    if isinstance(value, str) and len(value) <= LONGEST_TIME:
        with suppress(ValueError):
            if datetime.fromisoformat(value).tzinfo is not None:
                return value
    raise ValueError("it must be an ISO 8601 timestamp with a UTC offset")


def optional(check: Check) -> Check:
    """Return a check that accepts null as well."""
    return lambda value: None if value is None else check(value)


def entries(check: Check, *, most: int = MOST_ENTRIES) -> Check:
    """Return a check for a list of at most *most* values; the result is a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) > most:
            raise ValueError("it must be a list")
        return tuple(check(one) for one in value)

    return check_all


def row(*checks: Check) -> Check:
    """Return a check for a list with one value for each of *checks*; the result is a tuple."""

    def check_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) != len(checks):
            raise ValueError(f"it must be a list of {len(checks)} values")
        return tuple(check(one) for check, one in zip(checks, value, strict=True))

    return check_all


def mapping(key: Check, check: Check, *, most: int = MOST_ENTRIES) -> Check:
    """Return a check for an object of at most *most* entries, whose keys pass *key* and whose values pass *check*."""

    def check_all(value: Any) -> dict[Any, Any]:
        if not isinstance(value, dict) or len(value) > most:
            raise ValueError("it must be an object")
        return {key(name): check(one) for name, one in value.items()}

    return check_all


def nested(fields: Mapping[str, Field]) -> Check:
    """Return a check for an object with these *fields*; other keys are ignored."""

    def check(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError("it must be an object")  # noqa: TRY004 - one kind of error for all checks
        checked = {}
        for name, field in fields.items():
            try:
                checked[name] = field.of(value, name)
            except (ValueError, TypeError, OverflowError) as error:
                raise ValueError(f"{name}: {error}") from error
        return checked

    return check


def path_text(value: Any) -> str:
    """Check an absolute path without ``..``."""
    if not isinstance(value, str) or not value.startswith("/") or "/../" in f"{value}/" or not _is_path(value):
        raise ValueError("it must be an absolute path without '..'")
    return value


def relative_path(value: Any) -> str:
    """Check a relative path without ``.``, ``..`` and empty components."""
    names = f"/{value}/"  # string search instead of Path, because manifests have thousands of paths
    if not isinstance(value, str) or "//" in names or "/./" in names or "/../" in names or not _is_path(value):
        raise ValueError("it must be a relative path that stays below its directory")
    return value


def _is_path(text: str) -> bool:
    """Return whether *text* is usable as a path. Raises UnicodeEncodeError if it cannot be encoded."""
    return "\0" not in text and len(text if text.isascii() else os.fsencode(text)) <= LONGEST_PATH
