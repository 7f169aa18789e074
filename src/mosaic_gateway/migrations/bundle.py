"""A bundle: the migrations of one schema as shipped, verified against its hash lock before use."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from importlib_resources import files
from importlib_resources.abc import Traversable

from mosaic_gateway.errors import MigrationError
from mosaic_gateway.hint import command
from mosaic_gateway.migrations.folder_layout import folder_entries
from mosaic_gateway.migrations.gate import (
    FOLDER_FILE,
    JOURNAL_NAME,
    LOCK_NAME,
    check_bundle,
    check_text,
    lock_command,
    read_directory,
    unnamed_files,
)
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import JournalEntry, JournalFormatError, Statements, file_hash, parse_journal

__all__ = ["LEDGERS", "Bundle", "BundleError", "LedgerName", "read_entries"]


class BundleError(MigrationError):
    """The migration files differ from those that were packaged, or cannot be read."""

    code = "BUNDLE_INVALID"


@dataclass(frozen=True, slots=True)
class LedgerName:
    """The table that records the applied migrations of a bundle."""

    schema: str
    table: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"


#: Each schema has its own ledger: in a shared one, the rows of one bundle would be unknown rows to the other.
LEDGERS: Mapping[str, LedgerName] = {
    "gateway": LedgerName("drizzle", "__drizzle_migrations"),
    "storage": LedgerName("drizzle", "__mosaic_storage_migrations"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The migrations of one schema in journal order, and the ledger that records them.

    ``unnamed`` are the files that look like migrations but are not in the journal, so that no runner reads them; only
    a folder without a hash lock may have such files. ``packaged``: it belongs to this package. ``ledger_digest`` is
    the digest of the ledger of a database to which exactly this bundle is applied.
    """

    name: str
    ledger: LedgerName
    migrations: tuple[Migration, ...]
    unnamed: tuple[str, ...] = ()
    packaged: bool = False
    ledger_digest: str = field(init=False, repr=False)

    @property
    def in_folders(self) -> bool:
        """Whether it has drizzle-kit 1.0's layout: also a run with nothing to apply converts its ledger to 1.0's."""
        return any(migration.folder for migration in self.migrations)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ledger_digest", _ledger_digest(self.migrations))

    @classmethod
    def load(cls, name: str) -> Self:
        """Return the packaged bundle *name*. Works from a directory and from a zip.

        Raises `BundleError`, which names every file that is missing, extra or altered.
        """
        root = files("mosaic_gateway") / "sql" / name
        contents = _read_all(root) if root.is_dir() else {}
        try:
            return replace(cls.from_files(name, contents, ledger=LEDGERS[name]), packaged=True)
        except BundleError as error:
            raise BundleError(
                error.message,
                hint="Nothing was run. Reinstall the package: pip install --force-reinstall mosaic-gateway",
                details=error.details,
            ) from error

    @classmethod
    def from_directory(cls, path: Path, *, ledger: LedgerName = LEDGERS["gateway"]) -> Self:
        """Return the bundle in the folder *path*, in drizzle-kit's format (with a journal, or of 1.0).

        A folder with a hash lock is verified against it. Without one, the journal needs an entry and each entry a
        file; SQL files without an entry are `unnamed`. Raises `BundleError`.
        """
        try:
            contents = read_directory(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}", hint="Name a folder of migrations.") from error
        if LOCK_NAME in contents:
            return cls.from_files(path.resolve().name, contents, ledger=ledger, directory=path)
        entries = _unlocked_entries(path, contents)
        unnamed = unnamed_files(contents, {entry.file for entry in entries})
        return replace(cls._build(path.resolve().name, entries, contents, ledger), unnamed=unnamed)

    @classmethod
    def from_files(
        cls, name: str, contents: Mapping[str, bytes], *, ledger: LedgerName, directory: Path | None = None
    ) -> Self:
        """Return the bundle with *contents* (name relative to its folder -> bytes, lock included).

        *directory* is the folder that they were read from, for hints. Raises `BundleError`.
        """
        findings = check_bundle(name, contents)
        if findings:
            raise BundleError(
                f"the {name} migrations are damaged: " + "; ".join(map(str, findings)),
                hint="Nothing was run. Restore the locked files; if they were changed on purpose, update the lock: "
                + lock_command(directory),
                details={"bundle": name, "findings": [str(finding) for finding in findings]},
            )
        try:
            entries = read_entries(contents)
        except JournalFormatError as error:
            raise _unreadable(name, error) from error
        return cls._build(name, entries, contents, ledger)

    @classmethod
    def _build(
        cls, name: str, entries: tuple[JournalEntry, ...], contents: Mapping[str, bytes], ledger: LedgerName
    ) -> Self:
        try:
            for entry in entries:
                check_text(entry.file, contents[entry.file])
        except ValueError as error:
            raise _unreadable(name, error) from error
        migrations = tuple(_migration(entry, contents[entry.file]) for entry in entries)
        return cls(name=name, ledger=ledger, migrations=migrations)


def _unreadable(name: str, error: ValueError) -> BundleError:
    return BundleError(f"the {name} migrations cannot be read: {error}", hint="Nothing was run. Restore the files.")


def _unlocked_entries(path: Path, contents: Mapping[str, bytes]) -> tuple[JournalEntry, ...]:
    """Return the migrations of a folder. Raises `BundleError` if there are none, or their files are missing."""
    folders = next(filter(FOLDER_FILE.fullmatch, contents), None)
    if JOURNAL_NAME not in contents and folders is None:
        raise BundleError(
            f"{path} has neither {JOURNAL_NAME} nor folders of drizzle-kit 1.0",
            hint="Name a folder created by drizzle-kit (0.30 to 1.0) or " + command("storage new") + ".",
        )
    if JOURNAL_NAME in contents and folders is not None:
        raise BundleError(
            f"{path} has two layouts: {JOURNAL_NAME}, and {folders} of drizzle-kit 1.0",
            hint="Nothing was run. Convert the folder with drizzle-kit up, or remove the files of one layout.",
        )
    try:
        entries = read_entries(contents)
    except JournalFormatError as error:
        raise BundleError(f"{path}: {error}", hint="Nothing was run.") from error
    missing = [entry.file for entry in entries if entry.file not in contents]
    faults = [f"{name} is named by the journal but does not exist" for name in missing]
    if not entries:
        faults.append(f"{JOURNAL_NAME} has no entries")
    if faults:
        raise BundleError(
            f"{path}: " + "; ".join(faults),
            hint="Nothing was run. Restore the files of the folder as drizzle-kit or storage new wrote them.",
            details={"bundle": path.resolve().name, "findings": faults},
        )
    return entries


def read_entries(contents: Mapping[str, bytes]) -> tuple[JournalEntry, ...]:
    """Return the migrations of a folder in either layout, in their order. Raises `JournalFormatError`."""
    if JOURNAL_NAME not in contents:
        return folder_entries(contents)
    try:
        return parse_journal(contents[JOURNAL_NAME])
    except JournalFormatError as error:
        raise JournalFormatError(f"{JOURNAL_NAME} is not a journal: {error}") from error


def _ledger_digest(migrations: tuple[Migration, ...]) -> str:
    entries = sorted(f"{migration.hash}:{migration.when}".encode() for migration in migrations)
    digest = hashlib.md5(b",".join(entries), usedforsecurity=False).hexdigest()
    return f"{len(entries)}:{digest}"


def _migration(entry: JournalEntry, content: bytes) -> Migration:
    return Migration(
        tag=entry.tag,
        when=entry.when,
        hash=file_hash(content),
        statements=Statements(content.decode("utf-8")),
        folder=entry.folder,
        content=content,
    )


def _read_all(root: Traversable, prefix: str = "") -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for entry in root.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            contents.update(_read_all(entry, f"{name}/"))
        else:
            contents[name] = entry.read_bytes()
    return contents
