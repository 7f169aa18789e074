"""Parser for drizzle-kit's file formats, with the same rules as drizzle's own migrator. Pure.

Source: drizzle-orm 0.30 to 0.45, ``migrator.ts``: entries are read in array order, ``idx`` is ignored, a file
is split at the literal marker, and its hash covers the whole file including markers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from mosaic_gateway.migrations.model import Statement

__all__ = [
    "BREAKPOINT",
    "JournalEntry",
    "JournalFormatError",
    "Statements",
    "file_hash",
    "parse_journal",
    "prefix_hash",
    "prefix_hashes",
    "split",
    "statement_digests",
]

BREAKPOINT = "--> statement-breakpoint"
DIGEST_LENGTH = 16  # hexadecimal digits


class JournalFormatError(ValueError):
    """The text is not a valid drizzle-kit journal; the message says which part."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One entry of ``meta/_journal.json``, or a folder of drizzle-kit 1.0's layout (``folder``), named ``tag``."""

    tag: str
    when: int
    folder: bool = False

    @property
    def file(self) -> str:
        """The POSIX name of its SQL file."""
        return f"{self.tag}/migration.sql" if self.folder else f"{self.tag}.sql"


def file_hash(content: bytes) -> str:
    """Return drizzle's hash of a migration file: lower-case hex SHA-256 of its bytes."""
    return hashlib.sha256(content).hexdigest()


class Statements(Sequence[Statement]):
    """The statements of a migration file, split on first access.

    Most files of a large bundle are applied already and never split.
    """

    __slots__ = ("_statements", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._statements: tuple[Statement, ...] | None = None

    def _all(self) -> tuple[Statement, ...]:
        if self._statements is None:
            self._statements, self._text = split(self._text), ""
        return self._statements

    def __len__(self) -> int:
        return len(self._all())

    @overload
    def __getitem__(self, index: int) -> Statement: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Statement, ...]: ...
    def __getitem__(self, index: int | slice) -> Statement | tuple[Statement, ...]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._all() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._all())


def split(text: str) -> tuple[Statement, ...]:
    """Return the chunks of a migration file, without chunks that contain only white space.

    A chunk is divided where a BEGIN follows or a COMMIT precedes other statements, and nowhere else, as in drizzle.
    """
    # Imported here: a command that finds nothing to do splits no file, and the lexer would prolong its start.
    from mosaic_gateway.migrations.transaction_control import cut  # noqa: PLC0415

    statements: list[Statement] = []
    line = 1
    for chunk in text.split(BREAKPOINT):
        for offset, part in cut(chunk):
            sql = part.strip()
            if sql:
                begin = offset + len(part) - len(part.lstrip())
                at = line + chunk.count("\n", 0, begin)
                statements.append(Statement(number=len(statements) + 1, line=at, sql=sql))
        line += chunk.count("\n")
    return tuple(statements)


def prefix_hashes(statements: Sequence[Statement]) -> tuple[str, ...]:
    """Return n + 1 hashes: of the texts of the first 0, 1, … n statements, each prefixed with its length."""
    digest = hashlib.sha256()
    hashes = [digest.hexdigest()]
    for statement in statements:
        encoded = statement.sql.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
        hashes.append(digest.hexdigest())
    return tuple(hashes)


def prefix_hash(statements: Sequence[Statement], count: int) -> str:
    """Return the hash of the first *count* statements, as in `prefix_hashes`."""
    return prefix_hashes(statements[:count])[-1]


def statement_digests(statements: Sequence[Statement]) -> str:
    """Return a short hash of each statement, joined by commas, to identify edited statements later."""
    return ",".join(hashlib.sha256(statement.sql.encode()).hexdigest()[:DIGEST_LENGTH] for statement in statements)


def parse_journal(content: bytes) -> tuple[JournalEntry, ...]:
    """Return the journal's entries in their order. Raises `JournalFormatError`."""
    try:
        journal = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise JournalFormatError(f"not JSON: {error}") from error
    entries = journal.get("entries") if isinstance(journal, dict) else None
    if not isinstance(entries, list):
        raise JournalFormatError('no list "entries"')
    parsed = tuple(_entry(position, entry) for position, entry in enumerate(entries))
    tags = [entry.tag for entry in parsed]
    duplicates = sorted({tag for tag in tags if tags.count(tag) > 1}) if len(set(tags)) < len(tags) else []
    if duplicates:
        raise JournalFormatError(f"duplicate tag: {', '.join(duplicates)}")
    return parsed


def _entry(position: int, entry: Any) -> JournalEntry:
    tag = entry.get("tag") if isinstance(entry, dict) else None
    when = entry.get("when") if isinstance(entry, dict) else None
    if not isinstance(tag, str) or not tag or "/" in tag:
        raise JournalFormatError(f"entry {position} has no usable tag")
    if not isinstance(when, int) or isinstance(when, bool):
        raise JournalFormatError(f"entry {position} ({tag}) has no usable when")
    return JournalEntry(tag, when)
