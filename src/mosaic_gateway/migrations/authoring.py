"""Adds the next migration to a folder: its file, its journal entry, and the updated hash lock if there is one.

The journal is written as drizzle-kit writes it (``JSON.stringify(journal, null, 2)``), so that both tools can
continue it. drizzle-kit 1.0's layout has no journal: a migration is a folder, named by its time in UTC. All files
are written under temporary names first; then the new file, the lock and finally the journal are renamed into place.
A failure before the last rename rolls everything back.
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
from mosaic_gateway.migrations.bundle import read_entries
from mosaic_gateway.migrations.folder_layout import folder_entries, folder_name
from mosaic_gateway.migrations.gate import (
    FOLDER_FILE,
    JOURNAL_NAME,
    LOCK_NAME,
    Problem,
    check_bundle,
    lock_command,
    make_lock,
    read_directory,
)
from mosaic_gateway.migrations.matching import to_seconds
from mosaic_gateway.migrations.parse import JournalEntry

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
#: Not faults in a folder without a hash lock.
ALLOWED_WITHOUT_LOCK = {Problem.NO_LOCK, Problem.EMPTY, Problem.FILE_WITHOUT_JOURNAL}
HEAD = """\
-- {tag}
--
-- Each chunk commits in its own transaction, together with its progress: after a crash the next run continues
-- with the first chunk that is missing. Separate chunks by a line of two hyphens and '> statement-breakpoint'.
-- Statements that must commit together belong in one chunk; CREATE INDEX CONCURRENTLY and other statements that
-- cannot run in a transaction block need a chunk of their own.
-- Programs of the version before may still run while this is applied: add in this release, drop in a later one.
-- Before applying it anywhere, run: mosaic-gateway storage lint DIR. Never edit it once it is applied.

"""


class MigrationNameError(UsageError):
    """The name cannot be part of a migration's file name."""

    code = "MIGRATION_NAME_INVALID"


class WhenReversedError(RefusedError):
    """The system clock is behind the newest migration of the journal."""

    code = "WHEN_REVERSED"


class BundleFaultyError(RefusedError):
    """The folder is not a valid bundle, so nothing is added to it."""

    code = "BUNDLE_FAULTY"


class FolderBusyError(BusyError):
    """Another process is creating a migration in the same folder."""

    code = "FOLDER_BUSY"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMigration:
    """The migration that was created: ``when`` in milliseconds since the epoch; ``locked``: the lock was updated."""

    tag: str
    file: Path
    index: int
    when: int
    locked: bool


def slug_of(name: str) -> str:
    """Return *name* as used in the file name: lower-case letters, digits, underscores. Raises `MigrationNameError`."""
    slug = re.sub(r"[ _-]+", "_", name).lower()
    if NAME.fullmatch(name) is None or len(slug) > LONGEST_SLUG:
        raise MigrationNameError(
            f"{name!r} is not a valid migration name",
            hint=f"Use letters (a to z), digits, and spaces, _ or - between words; {LONGEST_SLUG} characters at most.",
        )
    return slug


def new_migration(directory: Path, name: str, *, now: int) -> NewMigration:
    """Create the next migration of *directory*, called *name*; *now* is in milliseconds since the epoch.

    An empty folder becomes a bundle without a hash lock. Raises `MigrationNameError`, `WhenReversedError`,
    `BundleFaultyError`, `FolderBusyError` and OSError; the folder is then unchanged.
    """
    slug = slug_of(name)
    with _folder_lock(directory):
        files = _read(directory)
        if any(map(FOLDER_FILE.fullmatch, files)):
            return _new_folder(directory, files, slug, now)
        journal = json.loads(files[JOURNAL_NAME]) if JOURNAL_NAME in files else _empty_journal()
        entries: list[dict[str, Any]] = journal["entries"]
        _check_when(entries, now)
        index = _next_index(entries)
        tag = f"{index:04}_{slug}"
        if f"{tag}.sql" in files:
            raise _faulty(directory, [f"{tag}.sql exists, but has no entry in the journal"])
        entries.append({"idx": index, "version": _version(journal), "when": now, "tag": tag, "breakpoints": True})
        changes = {f"{tag}.sql": HEAD.format(tag=tag).encode()}
        journal_bytes = _journal_bytes(journal, files.get(JOURNAL_NAME, b""))
        if LOCK_NAME in files:
            changes[LOCK_NAME] = make_lock(_bundle_name(directory), {**files, **changes, JOURNAL_NAME: journal_bytes})
        changes[JOURNAL_NAME] = journal_bytes
        _write_files(directory, files, changes)
    return NewMigration(tag=tag, file=directory / f"{tag}.sql", index=index, when=now, locked=LOCK_NAME in files)


def _new_folder(directory: Path, files: Mapping[str, bytes], slug: str, now: int) -> NewMigration:
    """Create a migration in drizzle-kit 1.0's layout.

    As drizzle-kit does, it adds a second to the newest time if the clock is not past it, so that the names sort.
    """
    entries = folder_entries(files)
    when = max(to_seconds(now), max(entry.when for entry in entries) + 1000)
    entry = JournalEntry(folder_name(when, slug), when, folder=True)
    changes = {entry.file: HEAD.format(tag=entry.tag).encode()}
    if LOCK_NAME in files:
        changes[LOCK_NAME] = make_lock(_bundle_name(directory), {**files, **changes})
    _write_files(directory, files, changes)
    return NewMigration(
        tag=entry.tag, file=directory / entry.file, index=len(entries), when=when, locked=LOCK_NAME in files
    )


@contextmanager
def _folder_lock(directory: Path) -> Iterator[None]:
    """Hold a flock(2) on the directory itself: it needs no lock file and ends with the process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise FolderBusyError(
            f"another process is creating a migration in {directory}", hint="Run the command again."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


def _read(directory: Path) -> dict[str, bytes]:
    """Return the folder's files. Raises `BundleFaultyError` unless it is a valid bundle or empty."""
    if not (directory / JOURNAL_NAME).exists():
        names = [f"{entry.name}/migration.sql" for entry in directory.iterdir()]
        if not names:
            return {}
        if not any(FOLDER_FILE.fullmatch(name) and (directory / name).exists() for name in names):
            raise _faulty(directory, [f"it is not empty and has no {JOURNAL_NAME}"])
    files = read_directory(directory)
    ignored = set() if LOCK_NAME in files else ALLOWED_WITHOUT_LOCK
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
        read_entries(files)
    except ValueError as error:
        return [str(error)]
    return []


def _faulty(directory: Path, faults: list[str]) -> BundleFaultyError:
    return BundleFaultyError(
        f"{directory} is not a valid bundle: " + "; ".join(faults),
        hint="Nothing was changed. Repair the folder first; if its files were changed on purpose, update the lock: "
        + lock_command(directory),
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
            f"the current time ({now} ms) is not later than that of the newest migration, {newest['tag']} "
            f"({newest['when']} ms); drizzle never runs a migration that is older than one already applied",
            hint="Nothing was changed. Correct the system clock, then run the command again.",
            details={"now": now, "newest": newest["when"], "tag": newest["tag"]},
        )


def _next_index(entries: list[dict[str, Any]]) -> int:
    """Return the number after the highest one in use, as ``idx`` or at the beginning of a tag."""
    taken = [entry["idx"] for entry in entries if isinstance(entry.get("idx"), int)]
    taken += [int(match[0]) for entry in entries if (match := re.match(r"[0-9]{4,9}(?=_)", entry["tag"]))]
    return max(taken, default=-1) + 1


def _journal_bytes(journal: Mapping[str, Any], before: bytes) -> bytes:
    """Return the journal as drizzle-kit writes it, with a final newline only if it had one *before*."""
    return json.dumps(journal, indent=2, ensure_ascii=False).encode() + (b"\n" if before.endswith(b"\n") else b"")


def _write_files(directory: Path, before: Mapping[str, bytes], changes: Mapping[str, bytes]) -> None:
    """Write *changes* in order; on a failure, restore the contents *before*."""
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
        for path, temporary in staged.items():
            undo.callback(_restore, path, temporary, before.get(path.relative_to(directory).as_posix()))
            temporary.rename(path)
        undo.pop_all()


def _restore(path: Path, temporary: Path, content: bytes | None) -> None:
    if temporary.exists():
        return  # it was not renamed
    if content is None:
        remove_file(path)
    else:
        write_file(path, content, mode=MODE)
