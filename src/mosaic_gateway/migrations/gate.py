"""The hash lock of a bundle: the SHA-256 of every SQL file that the bundle must contain.

Four gates verify it: the build hook, ``check_dist``, the tests of the built wheel and the running
program. The build hook loads this file by its path, before this package or any dependency is
installed, so the file uses only the standard library.

A migration's hash is the lower-case hexadecimal SHA-256 of the file's bytes. drizzle-orm hashes the
file as UTF-8 text, so the two agree for UTF-8 without a BOM; `make_lock` refuses everything else.
The journal's format is drizzle-kit's ``meta/_journal.json``: the SQL of an entry is ``<tag>.sql``.

``python -m mosaic_gateway.migrations.gate DIR`` writes the lock of a bundle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

__all__ = [
    "BUNDLES",
    "FOLDER_FILE",
    "JOURNAL_NAME",
    "LOCK_NAME",
    "BundleFault",
    "Problem",
    "check_bundle",
    "check_bundles",
    "check_text",
    "lock_command",
    "main",
    "make_lock",
    "read_directory",
    "unnamed_files",
]

BUNDLES = ("gateway", "storage")
JOURNAL_NAME = "meta/_journal.json"
LOCK_NAME = "meta/hashes.lock.json"
#: The SQL file of a migration in drizzle-kit 1.0's layout, which has no journal.
FOLDER_FILE = re.compile(r"[0-9]{14}[^/]*/migration\.sql")

LOCK_VERSION = 1
SHA256_HEX_LENGTH = 64
READ_SIZE = 1 << 16  # bytes


class Problem(StrEnum):
    """Kinds of faults of a bundle; the values are stable, for scripts."""

    NO_LOCK = "no_lock"
    BAD_LOCK = "bad_lock"
    EMPTY = "empty"
    MISSING = "missing"
    EXTRA = "extra"
    ALTERED = "altered"
    JOURNAL_WITHOUT_FILE = "journal_without_file"
    FILE_WITHOUT_JOURNAL = "file_without_journal"
    BAD_JOURNAL = "bad_journal"


SENTENCES: Mapping[Problem, str] = {
    Problem.NO_LOCK: "the hash lock {name} is missing",
    Problem.BAD_LOCK: "the hash lock {name} cannot be used",
    Problem.EMPTY: "there is no SQL file in {name}",
    Problem.MISSING: "{name} is missing",
    Problem.EXTRA: "{name} is not in the hash lock",
    Problem.ALTERED: "{name} differs from the hash lock",
    Problem.JOURNAL_WITHOUT_FILE: "{name} is named by the journal but does not exist",
    Problem.FILE_WITHOUT_JOURNAL: "{name} has no entry in the journal",
    Problem.BAD_JOURNAL: "the journal {name} cannot be used",
}


@dataclass(frozen=True, slots=True)
class BundleFault:
    """One fault. ``name`` is the file's posix name in the bundle, or the bundle's own name for `Problem.EMPTY`."""

    problem: Problem
    name: str
    reason: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        sentence = SENTENCES[self.problem].format(name=self.name)
        return f"{sentence}: {self.reason}" if self.reason else sentence


class _FormatError(ValueError):
    """A lock or a journal has an invalid format."""


def check_bundle(bundle: str, files: Mapping[str, bytes]) -> tuple[BundleFault, ...]:
    """Return all faults of *bundle*, none if it is valid.

    *files* holds the bytes of every file in the bundle's directory, by its POSIX path relative to it.
    Every file except the lock must be in the lock: an editor's backup file is a fault too.
    """
    findings = []
    if not any(name.endswith(".sql") for name in files):
        findings.append(BundleFault(Problem.EMPTY, bundle))
    return (*findings, *_check_lock(bundle, files), *_check_journal(files))


def check_bundles(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return a sentence for each fault of all `BUNDLES`; names in *files* are relative to their parent directory.

    SQL and journals outside the known bundles are faults as well: they would never be checked or run.
    """
    faults = [
        f"{bundle}: {finding}"
        for bundle in BUNDLES
        for finding in check_bundle(bundle, _below(f"{bundle}/", files))
    ]  # fmt: skip
    strays = (name for name in files if name.endswith((".sql", JOURNAL_NAME)) and name.split("/")[0] not in BUNDLES)
    return (*faults, *(f"{name} belongs to no bundle" for name in sorted(strays)))


def unnamed_files(files: Iterable[str], named: Container[str]) -> tuple[str, ...]:
    """Return the SQL files among *files* that look like migrations but are not *named* as such, so that they never run.

    All names are POSIX paths relative to the bundle; *named* are the files of the journal's entries, or of drizzle-kit
    1.0's folders. In subfolders SQL is left on purpose (drafts, seeds, down scripts), except in one that is named like
    a migration's and has no ``migration.sql``. A hash lock allows none of these files.
    """
    names = set(files)

    def looks_like_migration(name: str) -> bool:
        folder, slash, _ = name.rpartition("/")
        beside = f"{folder}/migration.sql"
        return not slash or (FOLDER_FILE.fullmatch(beside) is not None and beside not in names)

    strays = (name for name in names if name.endswith(".sql") and name not in named)
    return tuple(sorted(filter(looks_like_migration, strays)))


def make_lock(bundle: str, files: Mapping[str, bytes]) -> bytes:
    """Return the lock of *files*: canonical JSON with the hash of each ``.sql`` file and the journal.

    Raises ValueError for SQL that is not UTF-8 or begins with a BOM: drizzle's hash of it would differ.
    """
    hashes = {}
    for name in sorted(files):
        if name.endswith(".sql"):
            check_text(name, files[name])
        elif name != JOURNAL_NAME:
            continue
        hashes[name] = _hash(files[name])
    lock = {"version": LOCK_VERSION, "bundle": bundle, "files": hashes}
    return (json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_directory(directory: Path) -> dict[str, bytes]:
    """Return the bytes of every file below *directory* by its POSIX path relative to it. Raises OSError."""
    return dict(_read_below(os.fspath(directory), ""))


def _read_below(directory: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each file. pathlib takes four times as long for ten thousand files."""
    with os.scandir(directory) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _read_below(entry.path, f"{prefix}{entry.name}/")
        elif entry.is_file():
            yield f"{prefix}{entry.name}", _read(entry.path)


def _read(path: str) -> bytes:
    """Return the contents of a file. Creating a file object would take longer than reading from it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blocks = [os.read(descriptor, READ_SIZE)]
        while blocks[-1]:
            blocks.append(os.read(descriptor, READ_SIZE))
    finally:
        os.close(descriptor)
    return b"".join(blocks)


def _below(prefix: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(prefix): data for name, data in files.items() if name.startswith(prefix)}


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_text(name: str, data: bytes) -> None:
    """Raise ValueError if the file *name* with the content *data* is no text that PostgreSQL can run."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8: {error}") from error
    if text.startswith("\ufeff"):
        raise ValueError(f"{name} begins with a byte order mark")
    if "\0" in text:
        raise ValueError(f"{name} contains a NUL byte")


def _check_lock(bundle: str, files: Mapping[str, bytes]) -> list[BundleFault]:
    if LOCK_NAME not in files:
        return [BundleFault(Problem.NO_LOCK, LOCK_NAME)]
    try:
        locked = _parse_lock(bundle, files[LOCK_NAME])
    except _FormatError as error:
        return [BundleFault(Problem.BAD_LOCK, LOCK_NAME, reason=str(error))]
    found = {name: data for name, data in files.items() if name != LOCK_NAME}
    return [
        *(BundleFault(Problem.MISSING, name) for name in sorted(locked.keys() - found.keys())),
        *(BundleFault(Problem.EXTRA, name) for name in sorted(found.keys() - locked.keys())),
        *(
            BundleFault(Problem.ALTERED, name)
            for name in sorted(locked.keys() & found.keys())
            if _hash(found[name]) != locked[name]
        ),
    ]


def _check_journal(files: Mapping[str, bytes]) -> list[BundleFault]:
    named = {name for name in files if FOLDER_FILE.fullmatch(name)}
    if JOURNAL_NAME in files and named:
        reason = f"{min(named)} is of drizzle-kit 1.0's layout, which has no journal"
        return [BundleFault(Problem.BAD_JOURNAL, JOURNAL_NAME, reason=reason)]
    if JOURNAL_NAME not in files and not named:
        return [BundleFault(Problem.BAD_JOURNAL, JOURNAL_NAME, reason="it does not exist")]
    try:
        named = named or _parse_journal(files[JOURNAL_NAME])
    except _FormatError as error:
        return [BundleFault(Problem.BAD_JOURNAL, JOURNAL_NAME, reason=str(error))]
    found = {name for name in files if name.endswith(".sql")}
    return [
        *(BundleFault(Problem.JOURNAL_WITHOUT_FILE, name) for name in sorted(named - found)),
        *(BundleFault(Problem.FILE_WITHOUT_JOURNAL, name) for name in sorted(found - named)),
    ]


def _parse_object(data: bytes) -> dict[str, object]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _FormatError(f"it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _FormatError("it is not a JSON object")
    return value


def _parse_lock(bundle: str, data: bytes) -> dict[str, str]:
    lock = _parse_object(data)
    if lock.get("version") != LOCK_VERSION:
        raise _FormatError(f"its version is {lock.get('version')!r}, not {LOCK_VERSION}")
    if lock.get("bundle") != bundle:
        raise _FormatError(f"it belongs to the bundle {lock.get('bundle')!r}")
    files = lock.get("files")
    if not isinstance(files, dict) or not all(_is_hash(value) for value in files.values()):
        raise _FormatError("its files are not names with SHA-256 hashes")
    return files


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == SHA256_HEX_LENGTH and set(value) <= set("0123456789abcdef")


def _parse_journal(data: bytes) -> set[str]:
    """Return the names of the SQL files that the journal's entries refer to."""
    entries = _parse_object(data).get("entries")
    if not isinstance(entries, list):
        raise _FormatError("it has no list of entries")
    names: set[str] = set()
    for number, entry in enumerate(entries):
        tag = entry.get("tag") if isinstance(entry, dict) else None
        if not isinstance(tag, str) or not tag or "/" in tag or "\\" in tag:
            raise _FormatError(f"entry {number} has no usable tag")
        if f"{tag}.sql" in names:
            raise _FormatError(f"two entries have the tag {tag}")
        names.add(f"{tag}.sql")
    return names


def lock_command(directory: Path | None) -> str:
    """Return the command that writes the lock of the bundle in *directory*, as a shell takes it."""
    import shlex  # noqa: PLC0415 - as argparse

    return "python -m mosaic_gateway.migrations.gate " + ("DIR" if directory is None else shlex.quote(str(directory)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the hash lock of each bundle directory, or only check it; return the exit code (0, 1 or 2)."""
    import argparse  # noqa: PLC0415 - not imported by the running program, which never calls this function

    parser = argparse.ArgumentParser(prog="python -m mosaic_gateway.migrations.gate", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a bundle has faults")
    parser.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="a bundle's directory")
    options = parser.parse_args(arguments)
    code = 0
    for directory in options.directories:
        try:
            faults = _check(directory) if options.check else _lock(directory)
        except (OSError, ValueError) as error:
            print(f"{directory}: {error}", file=sys.stderr)
            return 2
        for fault in faults:
            print(f"{directory}: {fault}", file=sys.stderr)
        code = max(code, int(bool(faults)))
    return code


def _check(directory: Path) -> tuple[BundleFault, ...]:
    return check_bundle(_bundle_name(directory), read_directory(directory))


def _lock(directory: Path) -> tuple[BundleFault, ...]:
    """Write the lock unless the bundle would still have faults with it; return those faults."""
    from mosaic_gateway.fs.files import write_file  # noqa: PLC0415 - the build hook loads this file without the package

    bundle, files = _bundle_name(directory), read_directory(directory)
    old, new = files.get(LOCK_NAME, b""), make_lock(bundle, files)
    files[LOCK_NAME] = new
    faults = check_bundle(bundle, files)
    if faults:
        return faults
    for change in _changes(bundle, old, new):
        print(f"{directory}: {change}")
    if old == new:
        print(f"{directory}: {LOCK_NAME} is up to date")
    else:
        write_file(directory / LOCK_NAME, new, mode=0o644)
        print(f"{directory}: {LOCK_NAME} written")
    return ()


def _bundle_name(directory: Path) -> str:
    if not directory.is_dir():
        raise NotADirectoryError(20, "Not a directory", str(directory))
    return directory.resolve().name


def _changes(bundle: str, old: bytes, new: bytes) -> list[str]:
    try:
        before = _parse_lock(bundle, old)
    except _FormatError:
        before = {}
    after = _parse_lock(bundle, new)
    return [
        *(f"added {name}" for name in sorted(after.keys() - before.keys())),
        *(f"removed {name}" for name in sorted(before.keys() - after.keys())),
        *(f"changed {name}" for name in sorted(before.keys() & after.keys()) if before[name] != after[name]),
    ]


if __name__ == "__main__":
    sys.exit(main())
