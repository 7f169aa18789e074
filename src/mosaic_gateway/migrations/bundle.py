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
from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, check_bundle, read_directory, unnamed_files
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import JournalEntry, JournalFormatError, Statements, file_hash, parse_journal

__all__ = ["LEDGERS", "Bundle", "BundleError", "LedgerName"]


class BundleError(MigrationError):
    """The migration files differ from those that were packaged, or cannot be read."""

    code = "BUNDLE_INVALID"


@dataclass(frozen=True, slots=True)
class LedgerName:
    """The table that records the applied migrations of a bundle."""

    schema: str
    table: str


#: Each schema has its own ledger: in a shared one, the rows of one bundle would be unknown rows to the other.
LEDGERS: Mapping[str, LedgerName] = {
    "gateway": LedgerName("drizzle", "__drizzle_migrations"),
    "storage": LedgerName("drizzle", "__mosaic_storage_migrations"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """The migrations of one schema in journal order, and the ledger that records them.

    ``unnamed`` are the files that look like migrations but are not in the journal, so that no runner reads them; only
    a folder without a hash lock may have such files. ``ledger_digest`` is the `ledger.fingerprint` of a database to
    which exactly this bundle is applied.
    """

    name: str
    ledger: LedgerName
    migrations: tuple[Migration, ...]
    unnamed: tuple[str, ...] = ()
    ledger_digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ledger_digest", _ledger_digest(self.migrations))

    @classmethod
    def load(cls, name: str) -> Self:
        """Return the packaged bundle *name*. Works from a directory and from a zip.

        Raises `BundleError`, which names every file that is missing, extra or altered.
        """
        root = files("mosaic_gateway") / "sql" / name
        return cls.from_files(name, _read_all(root) if root.is_dir() else {}, ledger=LEDGERS[name])

    @classmethod
    def from_directory(cls, path: Path, *, ledger: LedgerName = LEDGERS["gateway"]) -> Self:
        """Return the bundle in the folder *path*, in drizzle-kit's format.

        A folder with a hash lock is verified against it. Without one, the journal needs an entry and each entry a
        file; SQL files without an entry are `unnamed`. Raises `BundleError`.
        """
        try:
            contents = read_directory(path)
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error}", hint="Name a folder of migrations.") from error
        if LOCK_NAME in contents:
            return cls.from_files(path.resolve().name, contents, ledger=ledger)
        entries = _unlocked_entries(path, contents)
        unnamed = unnamed_files(contents, {f"{entry.tag}.sql" for entry in entries})
        return replace(cls._build(path.resolve().name, entries, contents, ledger), unnamed=unnamed)

    @classmethod
    def from_files(cls, name: str, contents: Mapping[str, bytes], *, ledger: LedgerName) -> Self:
        """Return the bundle with *contents* (name relative to its folder -> bytes, lock included).

        Raises `BundleError`.
        """
        findings = check_bundle(name, contents)
        if findings:
            raise BundleError(
                f"the {name} migrations of this installation are damaged: " + "; ".join(map(str, findings)),
                hint="Nothing was run. Reinstall the package: pip install --force-reinstall mosaic-gateway",
                details={"bundle": name, "findings": [str(finding) for finding in findings]},
            )
        try:
            entries = parse_journal(contents[JOURNAL_NAME])
        except JournalFormatError as error:
            raise _unreadable(name, error) from error
        return cls._build(name, entries, contents, ledger)

    @classmethod
    def _build(
        cls, name: str, entries: tuple[JournalEntry, ...], contents: Mapping[str, bytes], ledger: LedgerName
    ) -> Self:
        try:
            migrations = tuple(_migration(entry.tag, entry.when, contents[f"{entry.tag}.sql"]) for entry in entries)
        except UnicodeDecodeError as error:
            raise _unreadable(name, error) from error
        return cls(name=name, ledger=ledger, migrations=migrations)


def _unreadable(name: str, error: ValueError) -> BundleError:
    return BundleError(f"the {name} migrations cannot be read: {error}", hint="Nothing was run. Restore the files.")


def _unlocked_entries(path: Path, contents: Mapping[str, bytes]) -> tuple[JournalEntry, ...]:
    """Return the entries of the journal. Raises `BundleError` if there are none or their files are missing."""
    if JOURNAL_NAME not in contents:
        raise BundleError(
            f"{path} has no {JOURNAL_NAME}",
            hint="Name a folder created by drizzle-kit (0.30 to 0.45) or mosaic-gateway storage new.",
        )
    try:
        entries = parse_journal(contents[JOURNAL_NAME])
    except JournalFormatError as error:
        raise BundleError(f"{path / JOURNAL_NAME} is not a journal: {error}", hint="Nothing was run.") from error
    missing = [name for entry in entries if (name := f"{entry.tag}.sql") not in contents]
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


def _ledger_digest(migrations: tuple[Migration, ...]) -> str:
    entries = sorted(f"{migration.hash}:{migration.when}".encode() for migration in migrations)
    digest = hashlib.md5(b",".join(entries), usedforsecurity=False).hexdigest()
    return f"{len(entries)}:{digest}"


def _migration(tag: str, when: int, content: bytes) -> Migration:
    return Migration(tag=tag, when=when, hash=file_hash(content), statements=Statements(content.decode("utf-8")))


def _read_all(root: Traversable, prefix: str = "") -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    for entry in root.iterdir():
        name = f"{prefix}{entry.name}"
        if entry.is_dir():
            contents.update(_read_all(entry, f"{name}/"))
        else:
            contents[name] = entry.read_bytes()
    return contents
