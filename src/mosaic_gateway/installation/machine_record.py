"""Root's record of an installation that root created: ``/etc/mosaic-gateway/<key>.json`` (owner root, mode 0644).

It is the only source for root's actions: the account, the service unit, the directory of program copies and the link
to the command. The receipt in the home has the rest, because the account can write it. The key is a hash of the home's
path, so that a home cannot refer to the record of another one. All processes read it to find the program copies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import BusyError, PreflightError
from mosaic_gateway.fs.files import make_directory, remove_file
from mosaic_gateway.fs.record_fields import (
    Field,
    RecordError,
    boolean,
    entries,
    integer_between,
    matching,
    optional,
    path_text,
    text,
)
from mosaic_gateway.fs.record_format import RecordFormat
from mosaic_gateway.hint import command

__all__ = [
    "DIRECTORY",
    "MachineRecord",
    "RecordsBusyError",
    "RecordsUnwritableError",
    "key_of",
    "machine_records",
    "read_machine_record",
    "record_file",
    "records_locked",
    "remove_machine_record",
    "write_machine_record",
]

DIRECTORY = Path("/etc/mosaic-gateway")
READABLE = 0o644
LONGEST_WAIT = 60.0  # seconds to wait for the lock
PAUSE = 0.1  # seconds
NAME = re.compile(r"[0-9a-f]{16}\.json")
#: Account names that useradd(8) accepts.
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")


class RecordsBusyError(BusyError):
    """Another command that root runs is creating an installation on this machine."""

    code = "INSTALLATION_BUSY"


class RecordsUnwritableError(PreflightError):
    """Root's record of the installation cannot be written."""

    code = "RECORD_UNWRITABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """What root created for the home ``home``.

    ``account`` owns the home; ``account_created``: root created this account. ``directories`` are those that root
    created: parents of the home, outermost first, and the home. ``programs`` is the directory of program copies.
    ``unit`` is the service unit (`gateway.service.Service.to_dict`), ``command`` the link to the installation's
    command; both may be None. ``host`` and ``port`` are the address that root configured; needed for ports below 1024.
    ``cache`` is the account's cache outside the home. ``complete``: the installation was completed.
    """

    home: Path
    account: str
    uid: int
    programs: Path
    account_created: bool = False
    directories: tuple[Path, ...] = ()
    unit: dict[str, Any] | None = None
    command: Path | None = None
    host: str | None = None
    port: int | None = None
    cache: Path | None = None
    complete: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)


def _path(value: Any) -> Path:
    return Path(path_text(value))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it must be an object")  # noqa: TRY004 - one kind of error for all checks
    return value


FIELDS = {
    "home": Field(_path),
    "account": Field(matching(ACCOUNT, "the name of an account")),
    "uid": Field(integer_between(0, (1 << 32) - 2)),
    "programs": Field(_path),
    "account_created": Field(boolean),
    "directories": Field(entries(_path)),
    "unit": Field(optional(_object)),
    "command": Field(optional(_path)),
    "host": Field(optional(text)),
    "port": Field(optional(integer_between(1, 65535))),
    "cache": Field(optional(_path)),
    "complete": Field(boolean),
}
HINT = "Restore it from a backup of /etc, or remove it and run " + command("install") + " as root."

FORMAT = RecordFormat(fields=FIELDS, number_key="record", hint=HINT, mode=READABLE)


def key_of(home: Path) -> str:
    """Return the key of the installation in *home*: 16 hexadecimal digits of a SHA-256. Pure."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def record_file(home: Path) -> Path:
    """Return the path of root's record of *home*, whether it exists or not."""
    return DIRECTORY / f"{key_of(home)}.json"


def read_machine_record(home: Path) -> MachineRecord | None:
    """Return root's record of *home*, None if root did not install there. Raises RecordError, OSError."""
    return _read(record_file(home), home)


def machine_records() -> Iterator[MachineRecord]:
    """Yield all readable records of installations that root created on this machine."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for file in sorted(DIRECTORY.iterdir()):
            if NAME.fullmatch(file.name):
                with suppress(RecordError, OSError):
                    record = _read(file, None)
                    if record is not None:
                        yield record


@contextmanager
def records_locked() -> Iterator[None]:
    """Lock the records for the block, so that root runs one installation at a time.

    Raises `RecordsBusyError` after `LONGEST_WAIT` seconds, `RecordsUnwritableError`.
    """
    with _write_errors():
        make_directory(DIRECTORY, 0o755)
        directory = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(directory)
        yield
    finally:
        os.close(directory)
        with suppress(OSError):  # the directory is not empty
            DIRECTORY.rmdir()


def _lock(directory: int) -> None:
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise RecordsBusyError(
                f"another process has locked {DIRECTORY} for more than {LONGEST_WAIT:g} s to create an installation",
                hint=f"Find the process with fuser {DIRECTORY}, end it, then run this command again.",
            )
        time.sleep(PAUSE)


def write_machine_record(record: MachineRecord) -> None:
    """Write *record* and flush it to disk. Raises `RecordsUnwritableError`."""
    with _write_errors():
        make_directory(DIRECTORY, 0o755)
        FORMAT.write(record_file(record.home), asdict(record), indent=2)


@contextmanager
def _write_errors() -> Iterator[None]:
    """Translate OSError into `RecordsUnwritableError`."""
    try:
        yield
    except OSError as error:
        raise RecordsUnwritableError(
            f"root's record of the installation cannot be written into {DIRECTORY}: {error.strerror}",
            hint="Make /etc writable for this command, or install as an ordinary user: such an installation "
            "needs no files outside its home.",
        ) from error


def remove_machine_record(home: Path) -> None:
    """Remove the record of *home*, and the directory of records if it is empty afterwards. Raises OSError."""
    remove_file(record_file(home))
    with suppress(OSError):
        DIRECTORY.rmdir()


def _read(file: Path, home: Path | None) -> MachineRecord | None:
    try:
        status = file.lstat()
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RecordError(file, "", "it is not owned by root, or others have write permission", hint=HINT)
        value = FORMAT.read(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    record = MachineRecord(**value)
    if home is not None and record.home != home:
        raise RecordError(file, "home", f"it names {record.home}", hint=HINT)
    return record
