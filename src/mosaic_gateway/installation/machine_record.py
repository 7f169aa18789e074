"""Root's own record of an installation that root made: ``/etc/mosaic-gateway/<key>.json`` (root, 0644).

What root acts on stands here and nowhere else: the account, the unit, the directory of programs, the command's link.
A home's own receipt, which the account can write, has the rest. The key is a hash of the home's path, so that no home
can name another's record. Every process may read a record: it says where the programs of a home lie.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import BusyError, PreflightError
from mosaic_gateway.fs.files import make_directory, remove_file, write_file
from mosaic_gateway.fs.record_fields import (
    Field,
    RecordError,
    boolean,
    entries,
    integer,
    matching,
    optional,
    path_text,
    read_record,
    text,
    whole,
)

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
#: Version of the file's form.
SCHEMA = 1
READABLE = 0o644
LONGEST_WAIT = 60.0  # seconds for another command of root's to have looked and made what is root's
PAUSE = 0.1  # seconds
NAME = re.compile(r"[0-9a-f]{16}\.json")
#: useradd(8), and what this product calls its own.
ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?")


class RecordsBusyError(BusyError):
    """Another command of root's is making an installation on this machine."""

    code = "INSTALLATION_BUSY"


class RecordsUnwritableError(PreflightError):
    """Root cannot keep its record of the installation."""

    code = "RECORD_UNWRITABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """What root has made for the home ``home``.

    ``account`` is whom the home belongs to, ``account_created`` whether root made that account for it;
    ``directories`` are the home and those above it that root made, outermost first. ``programs`` is the directory of
    programs. ``unit`` is the service manager's (`gateway.service.Service.to_dict`), ``command`` a link to the
    installation's command, both None where there is none. ``host`` and ``port`` are where root has said that the
    gateway listens, which matters for ports below 1024; ``cache`` what is kept for the account outside of the home.
    ``complete`` says that an installation came to its end.
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


def _path(value: Any) -> Path:
    return Path(path_text(value))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it must be an object")  # noqa: TRY004 - one kind of error for all checks
    return value


FIELDS = {
    "record": Field(integer),
    "home": Field(_path),
    "account": Field(matching(ACCOUNT, "the name of an account")),
    "uid": Field(whole(0, (1 << 32) - 2)),
    "programs": Field(_path),
    "account_created": Field(boolean),
    "directories": Field(entries(_path)),
    "unit": Field(optional(_object)),
    "command": Field(optional(_path)),
    "host": Field(optional(text)),
    "port": Field(optional(whole(1, 65535))),
    "cache": Field(optional(_path)),
    "complete": Field(boolean),
}
HINT = "Root wrote it: restore it from a backup of /etc, or remove it and run mosaic-gateway install."


def key_of(home: Path) -> str:
    """Return the key of the installation in *home*: 16 hexadecimal digits. Pure."""
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:16]


def record_file(home: Path) -> Path:
    """Return where root's record of *home* is, if there is one."""
    return DIRECTORY / f"{key_of(home)}.json"


def read_machine_record(home: Path) -> MachineRecord | None:
    """Return root's record of *home*, None where root has not installed there. Raises RecordError, OSError."""
    return _read(record_file(home), home)


def machine_records() -> Iterator[MachineRecord]:
    """Yield the record of every installation that root made on this machine, as far as it can be read."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        for file in sorted(DIRECTORY.iterdir()):
            if NAME.fullmatch(file.name):
                with suppress(RecordError, OSError):
                    found = _read(file, None)
                    if found is not None:
                        yield found


@contextmanager
def records_locked() -> Iterator[None]:
    """Let no other command of root's make an installation during the block.

    Raises `RecordsBusyError` after `LONGEST_WAIT`, `RecordsUnwritableError`.
    """
    with _naming_the_directory():
        make_directory(DIRECTORY, 0o755)
        directory = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(directory)
        yield
    finally:
        os.close(directory)
        with suppress(OSError):  # it holds records
            DIRECTORY.rmdir()


def _lock(directory: int) -> None:
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            raise RecordsBusyError(
                "another command of root's has been making an installation for some time",
                hint=f"See who has {DIRECTORY} open (fuser {DIRECTORY}), end that command, then run this one again.",
            )
        time.sleep(PAUSE)


def write_machine_record(record: MachineRecord) -> None:
    """Write *record*; on disk before the return. Raises `RecordsUnwritableError`."""
    value = {"record": SCHEMA, **asdict(record)}
    with _naming_the_directory():
        make_directory(DIRECTORY, 0o755)
        write_file(record_file(record.home), json.dumps(value, indent=2, default=str) + "\n", READABLE)


@contextmanager
def _naming_the_directory() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecordsUnwritableError(
            f"root's record of the installation cannot be written into {DIRECTORY}: {error.strerror}",
            hint="Make /etc writable for this command, or install as an ordinary user, whose installation "
            "stays wholly in its home.",
        ) from error


def remove_machine_record(home: Path) -> None:
    """Remove the record of *home*, and the directory of records if it is empty then. Raises OSError."""
    remove_file(record_file(home))
    with suppress(OSError):
        DIRECTORY.rmdir()


def _read(file: Path, home: Path | None) -> MachineRecord | None:
    try:
        status = file.lstat()
        if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RecordError(file, "", "it is not root's alone", hint=HINT)
        value = read_record(file, FIELDS, hint=HINT)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if value.pop("record") != SCHEMA:
        raise RecordError(file, "record", "a later version wrote it", hint="Install that version.")
    record = MachineRecord(**value)
    if home is not None and record.home != home:
        raise RecordError(file, "home", f"it names {record.home}", hint=HINT)
    return record
