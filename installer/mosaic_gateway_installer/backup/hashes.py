"""The hashes of a backup's files, added to its manifest after it was created without them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mosaic_gateway.hint import command
from mosaic_gateway_installer.backup.manifest import MANIFEST, read_manifest, write_manifest
from mosaic_gateway_installer.backup.online_copy import BackupFailedError
from mosaic_gateway_installer.backup.tree_comparison import hash_files

__all__ = ["add_missing_hashes"]


def add_missing_hashes(backup: Path) -> None:
    """Add the missing hashes to the manifest of *backup*. Raises `BackupFailedError`, OSError."""
    manifest = read_manifest(backup)
    known = {entry.path: entry for entry in manifest.files}
    files = hash_files(backup, skip=lambda path: path == MANIFEST, known=known)
    if [(entry.path, entry.size) for entry in files] != [(entry.path, entry.size) for entry in manifest.files]:
        raise BackupFailedError(
            f"{backup} was changed after its creation", hint="Create another backup: " + command("backup create")
        )
    write_manifest(backup, replace(manifest, files=files))
