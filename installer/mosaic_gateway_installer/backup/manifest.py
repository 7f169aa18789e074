"""The manifest of a backup: its installation, version and kind, and every file with its hash.

It is written last, so that a directory without a manifest is not a backup. ``manifest.json``::

    {"backup": 1, "instance_id": …, "created_at": …, "version": …, "engine": …, "kind": "cold", "files": [[path, size,
     sha256], …], …}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mosaic_gateway import fs
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.record_fields import (
    INSTANCE_ID,
    VERSION,
    Field,
    RecordError,
    any_text,
    digest,
    entries,
    integer,
    matching,
    member,
    optional,
    relative_path,
    row,
    text,
    timestamp,
)
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName
from mosaic_gateway_installer.backup.tree_comparison import FileEntry

__all__ = [
    "BEFORE_RESTORE",
    "DUMP",
    "MANIFEST",
    "BackupKind",
    "Manifest",
    "ManifestError",
    "TableRows",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"
#: Tag of the backup of the data that a restore replaced; "latest" never means such a backup.
BEFORE_RESTORE = "before-restore"
#: The name of a dump in a backup's ``data`` directory.
DUMP = "database.dump"


class ManifestError(RefusedError):
    """The directory is not a backup, or its manifest cannot be read."""

    code = "BACKUP_UNREADABLE"


class BackupKind(StrEnum):
    """How the data was copied; see the package's docstring."""

    COLD = "cold"
    ONLINE = "online"
    DUMP = "dump"


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of one table: its qualified name, the row count, and a checksum that does not depend on row order."""

    table: str
    count: int
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The manifest of one backup.

    ``created_at`` and ``verified_at`` are UTC (ISO 8601); the latter is None until the backup has been verified.
    ``version`` is the gateway's, ``server_version`` PostgreSQL's (such as 18.6; None for another engine).
    ``system_identifier`` is the cluster's. ``schema`` is the digest of the applied migrations in the receipt.
    ``tables`` are the rows at the backup's instant, and ``objects`` is a hash over the schema's objects; both are
    None for a cold backup, whose files are compared instead. ``tag`` says why a verb created it: `BEFORE_RESTORE`.
    """

    instance_id: str
    created_at: str
    version: str
    engine: str
    kind: BackupKind
    files: tuple[FileEntry, ...]
    server_version: str | None = None
    system_identifier: int | None = None
    schema: str | None = None
    tables: tuple[TableRows, ...] | None = None
    objects: str | None = None
    verified_at: str | None = None
    tag: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def size(self) -> int:
        """The total size of all files in bytes."""
        return sum(entry.size for entry in self.files)


def write_manifest(backup: Path, manifest: Manifest) -> None:
    """Write *manifest* into the directory *backup*. Raises OSError."""
    value = asdict(manifest)
    value["files"] = [[entry.path, entry.size, entry.sha256] for entry in manifest.files]
    if manifest.tag is None:
        del value["tag"]
    if manifest.tables is not None:
        value["tables"] = [[rows.table, rows.count, rows.checksum] for rows in manifest.tables]
    FORMAT.write(backup / MANIFEST, value, indent=1)


def read_manifest(backup: Path) -> Manifest:
    """Return the manifest of the directory *backup*. Raises `ManifestError`."""
    file = backup / MANIFEST
    try:
        return Manifest(**FORMAT.read(file))
    except FileNotFoundError as error:
        raise ManifestError(
            f"{backup} is not a backup: it has no {MANIFEST}", hint="List the backups: " + command("backup list")
        ) from error
    except fs.LaterSchemaError as error:
        raise ManifestError(
            f"{backup} was created by a later version of mosaic-gateway", hint=error.hint, details=error.details
        ) from error
    except RecordError as error:
        raise ManifestError(
            error.message, hint="Choose another backup: " + command("backup list"), details=error.details
        ) from error
    except OSError as error:
        raise ManifestError(
            f"{file} cannot be read: {error.strerror}", hint="Choose another backup: " + command("backup list")
        ) from error


def _files(value: Any) -> tuple[FileEntry, ...]:
    files = tuple(FileEntry(*fields) for fields in _ROWS_OF_FILES(value))
    if len({entry.path for entry in files}) != len(files):
        raise ValueError("it must name each path once")
    return files


def _tables(value: Any) -> tuple[TableRows, ...]:
    return tuple(TableRows(*fields) for fields in _ROWS_OF_TABLES(value))


_HASH = matching(re.compile(r"([0-9a-f]{64})?"), "a digest of 64 hexadecimal digits, or empty")
_ROWS_OF_FILES = entries(row(relative_path, integer, _HASH))
_ROWS_OF_TABLES = entries(row(any_text, integer, text))
FIELDS = {
    "instance_id": Field(matching(INSTANCE_ID, "16 hexadecimal digits")),
    "created_at": Field(timestamp),
    "version": Field(matching(VERSION, "a version")),
    "engine": Field(lambda value: str(member(EngineName)(value))),
    "kind": Field(member(BackupKind)),
    "files": Field(_files),
    "server_version": Field(optional(text), None),
    "system_identifier": Field(optional(integer), None),
    "schema": Field(optional(digest), None),
    "tables": Field(optional(_tables), None),
    "objects": Field(optional(digest), None),
    "verified_at": Field(optional(timestamp), None),
    "tag": Field(optional(text), None),
}
FORMAT = fs.RecordFormat(fields=FIELDS, number_key="backup", limit=fs.LARGE)
