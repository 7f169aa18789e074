"""The manifest of a backup: what it is of, how it was made, and every file with its hash.

Written last into the backup, so that a directory without one is no backup. ``manifest.json``::

    {"backup": 1, "instance_id": …, "created_at": …, "version": …, "engine": …, "kind": "cold", "files": [[path, size,
     sha256], …], …}
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.files import write_file
from mosaic_gateway.process.account import Account, assume
from mosaic_gateway_installer.backups.compare import FileEntry

__all__ = [
    "DUMP",
    "MANIFEST",
    "SCHEMA",
    "BackupKind",
    "Manifest",
    "ManifestError",
    "TableRows",
    "read_manifest",
    "write_manifest",
]

MANIFEST = "manifest.json"
#: A dump's place below a backup's ``data``.
DUMP = "database.dump"
#: Version of the file's form.
SCHEMA = 1


class ManifestError(RefusedError):
    """The directory is no backup, or its manifest cannot be read."""

    code = "BACKUP_UNREADABLE"


class BackupKind(StrEnum):
    """How the data was taken; see the package's docstring."""

    COLD = "cold"
    ONLINE = "online"
    DUMP = "dump"


@dataclass(frozen=True, slots=True)
class TableRows:
    """The rows of one table: qualified name, how many, and a hash over all of them in no order."""

    table: str
    count: int
    checksum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What one backup is.

    ``created_at`` and ``verified_at`` are UTC (ISO 8601), the latter None until a restore of it was compared.
    ``version`` is the gateway's, ``server_version`` PostgreSQL's (like 18.6; None for another engine).
    ``system_identifier`` is the cluster's. ``schema`` is the digest of the applied migrations that the receipt
    names. ``tables`` are the rows of the instant that the backup is of, and ``objects`` a hash over the
    schema's objects; both None where they could not be known (a cold copy is compared as files).
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

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(entry.size for entry in self.files)


def write_manifest(backup: Path, manifest: Manifest, account: Account | None) -> None:
    """Write *manifest* into the directory *backup* as *account*. Raises OSError."""
    value = asdict(manifest)
    value["files"] = [[entry.path, entry.size, entry.sha256] for entry in manifest.files]
    if manifest.tables is not None:
        value["tables"] = [[rows.table, rows.count, rows.checksum] for rows in manifest.tables]
    with assume(account):
        write_file(backup / MANIFEST, json.dumps({"backup": SCHEMA, **value}, indent=1) + "\n")


def read_manifest(backup: Path) -> Manifest:
    """Return the manifest of the directory *backup*. Raises `ManifestError`."""
    try:
        value: Any = json.loads((backup / MANIFEST).read_bytes())
        if value.pop("backup") != SCHEMA:
            raise ManifestError(
                f"{backup} was made by a later version",
                hint="Install that version: pip install --upgrade mosaic-gateway",
            )
        tables = value.pop("tables")
        return Manifest(
            **{
                **value,
                "kind": BackupKind(value["kind"]),
                "files": tuple(FileEntry(str(path), int(size), str(digest)) for path, size, digest in value["files"]),
                "tables": None if tables is None else tuple(TableRows(str(t), int(n), str(c)) for t, n, c in tables),
            }
        )
    except FileNotFoundError as error:
        raise ManifestError(
            f"{backup} is no backup: it has no {MANIFEST}", hint="See what there is: mosaic-gateway backup list"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f"{backup / MANIFEST} cannot be read: {error}", hint="Take another backup: mosaic-gateway backup list"
        ) from error
