"""The next migration of a folder: its file, its journal entry, and the hash lock where there is one.

The journal keeps the form in which drizzle-kit writes it (``JSON.stringify(journal, null, 2)``), so that
both tools can go on with it. All is written beside its place first; then the new file, the lock and, as
the last, the journal take their names. Whatever fails before the end takes back what was done.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import BusyError, RefusedError, UsageError
from mosaic_gateway.fs.files import remove_file, write_file
from mosaic_gateway.migrations.gate import (
    JOURNAL_NAME,
    LOCK_NAME,
    Problem,
    check_bundle,
    make_lock,
    read_directory,
)
from mosaic_gateway.migrations.parse import parse_journal

__all__ = [
    "BundleFaultyError",
    "FolderBusyError",
    "MigrationNameError",
    "NewMigration",
    "WhenReversedError",
    "new_migration",
    "slug_of",
]

JOURNAL_VERSION = "7"  # of drizzle-kit 0.21 to 0.31
LONGEST_SLUG = 60  # characters
NAME = re.compile(r"[A-Za-z0-9]+(?:[ _-]+[A-Za-z0-9]+)*")
MODE = 0o644
#: Without a lock, these are not faults.
OF_THE_LOCK = {Problem.NO_LOCK, Problem.EMPTY}
HEAD = """\
-- {tag}
--
-- Each statement commits alone, with its progress: after a crash the next run goes on with the one that is
-- missing. Write between two statements a line of two hyphens and '> statement-breakpoint'. What must commit
-- together stands in one chunk; CREATE INDEX CONCURRENTLY and its like in one of their own.
-- The version before still runs while this is applied: add first, take away in a later release.
-- Before it is applied anywhere: mosaic-gateway storage lint DIR. Once it is applied, never edit it.

"""


class MigrationNameError(UsageError):
    """The name cannot be part of a file name as drizzle-kit makes them."""

    code = "MIGRATION_NAME_INVALID"


class WhenReversedError(RefusedError):
    """The clock is behind the newest migration of the journal."""

    code = "WHEN_REVERSED"


class BundleFaultyError(RefusedError):
    """The folder is not whole, so nothing is added to it."""

    code = "BUNDLE_FAULTY"


class FolderBusyError(BusyError):
    """Somebody else makes a migration in the same folder at this moment."""

    code = "FOLDER_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMigration:
    """What was made: ``when`` in milliseconds since the epoch; ``locked`` says that a hash lock was updated."""

    tag: str
    file: Path
    index: int
    when: int
    locked: bool


def slug_of(name: str) -> str:
    """Return *name* as it stands in a file name: small letters, digits, underscores. Raises `MigrationNameError`."""
    slug = re.sub(r"[ _-]+", "_", name).lower()
    if NAME.fullmatch(name) is None or len(slug) > LONGEST_SLUG:
        raise MigrationNameError(
            f"{name!r} cannot name a migration",
            hint=f"Use letters (a to z), digits, and spaces, _ or - between words; {LONGEST_SLUG} characters at most.",
        )
    return slug


def new_migration(directory: Path, name: str, *, now: int) -> NewMigration:
    """Make the next migration of *directory*, called *name*; *now* is in milliseconds since the epoch.

    An empty folder becomes a bundle, without a lock. Raises `MigrationNameError`, `WhenReversedError`,
    `BundleFaultyError`, `FolderBusyError` and OSError; then nothing is changed.
    """
    slug = slug_of(name)
    with _held(directory):
        files = _read(directory)
        journal = json.loads(files[JOURNAL_NAME]) if JOURNAL_NAME in files else _empty_journal()
        entries: list[dict[str, Any]] = journal["entries"]
        _check_when(entries, now)
        index = _next_index(entries)
        tag = f"{index:04}_{slug}"
        entries.append({"idx": index, "version": _version(journal), "when": now, "tag": tag, "breakpoints": True})
        changes = {f"{tag}.sql": HEAD.format(tag=tag).encode()}
        journal_bytes = _journal_bytes(journal, files.get(JOURNAL_NAME, b""))
        if LOCK_NAME in files:
            changes[LOCK_NAME] = make_lock(_bundle_name(directory), {**files, **changes, JOURNAL_NAME: journal_bytes})
        changes[JOURNAL_NAME] = journal_bytes
        _put(directory, files, changes)
    return NewMigration(tag=tag, file=directory / f"{tag}.sql", index=index, when=now, locked=LOCK_NAME in files)


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Hold a lock on the folder itself: it leaves no file, and ends with the process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FolderBusyError(
            f"another process makes a migration in {directory}", hint="Run the command again."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _read(directory: Path) -> dict[str, bytes]:
    """Return the folder's files. Raises `BundleFaultyError` unless it is a whole bundle, or empty."""
    if not (directory / JOURNAL_NAME).exists():
        if any(directory.iterdir()):
            raise _faulty(directory, [f"it has no {JOURNAL_NAME}, and is not empty"])
        return {}
    files = read_directory(directory)
    ignored = set() if LOCK_NAME in files else OF_THE_LOCK
    faults = [
        str(finding)
        for finding in check_bundle(_bundle_name(directory), files)
        if finding.problem not in ignored
    ]  # fmt: skip
    if not faults:
        faults = _unreadable(files)
    if faults:
        raise _faulty(directory, faults)
    return files


def _unreadable(files: Mapping[str, bytes]) -> list[str]:
    try:
        parse_journal(files[JOURNAL_NAME])
    except ValueError as error:
        return [f"{JOURNAL_NAME}: {error}"]
    return []


def _faulty(directory: Path, faults: list[str]) -> BundleFaultyError:
    return BundleFaultyError(
        f"{directory} is not a whole bundle: " + "; ".join(faults),
        hint="Nothing was changed. Mend it first; if you changed its files on purpose, write the lock anew: "
        "python -m mosaic_gateway.migrations.gate DIR",
        details={"findings": faults},
    )


def _bundle_name(directory: Path) -> str:
    return directory.resolve().name


def _empty_journal() -> dict[str, Any]:
    return {"version": JOURNAL_VERSION, "dialect": "postgresql", "entries": []}


def _version(journal: Mapping[str, Any]) -> str:
    return str(journal.get("version", JOURNAL_VERSION))


def _check_when(entries: list[dict[str, Any]], now: int) -> None:
    newest = max(entries, key=lambda entry: int(entry["when"]), default=None)
    if newest is not None and now <= newest["when"]:
        raise WhenReversedError(
            f"the time now ({now} ms) is not after that of the newest one, {newest['tag']} ({newest['when']} ms); "
            "drizzle would never run what comes after it with an older time",
            hint="Nothing was changed. Set this machine's clock right, then run the command again.",
            details={"now": now, "newest": newest["when"], "tag": newest["tag"]},
        )


def _next_index(entries: list[dict[str, Any]]) -> int:
    """Return the number after all that are taken, as ``idx`` or at the beginning of a tag."""
    taken = [entry["idx"] for entry in entries if isinstance(entry.get("idx"), int)]
    taken += [int(match[0]) for entry in entries if (match := re.match(r"[0-9]{4,9}(?=_)", entry["tag"]))]
    return max(taken, default=-1) + 1


def _journal_bytes(journal: Mapping[str, Any], before: bytes) -> bytes:
    """Return the journal as drizzle-kit writes it, with a line end at its end where it had one."""
    return json.dumps(journal, indent=2, ensure_ascii=False).encode() + (b"\n" if before.endswith(b"\n") else b"")


def _put(directory: Path, before: Mapping[str, bytes], changes: Mapping[str, bytes]) -> None:
    """Write *changes* in their order; on a failure, everything is as *before* again."""
    with ExitStack() as undo:
        staged = {}
        for name, content in changes.items():
            path = directory / name
            if not path.parent.exists():
                path.parent.mkdir()
                undo.callback(path.parent.rmdir)
            staged[path] = path.with_name(f".{path.name}.new")
            undo.callback(remove_file, staged[path])
            write_file(staged[path], content, mode=MODE)
        for path, beside in staged.items():
            undo.callback(_restore, path, beside, before.get(path.relative_to(directory).as_posix()))
            beside.rename(path)
        undo.pop_all()


def _restore(path: Path, beside: Path, content: bytes | None) -> None:
    if beside.exists():
        return  # it did not take its name
    if content is None:
        remove_file(path)
    else:
        write_file(path, content, mode=MODE)
