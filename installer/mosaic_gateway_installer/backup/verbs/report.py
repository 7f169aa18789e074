"""The description of a backup in JSON and in output lines."""

from __future__ import annotations

from typing import Any

from mosaic_gateway_installer.backup.stored_backups import Backup

__all__ = ["backup_facts", "size_text"]


def backup_facts(backup: Backup) -> dict[str, Any]:
    """Return the JSON object that describes *backup*."""
    manifest = backup.manifest
    return {
        "name": backup.name,
        "path": str(backup.path),
        "kind": str(manifest.kind),
        "engine": manifest.engine,
        "instance_id": manifest.instance_id,
        "version": manifest.version,
        "server_version": manifest.server_version,
        "created_at": manifest.created_at,
        "verified_at": manifest.verified_at,
        "size": manifest.size,
        "files": len(manifest.files),
    }


def size_text(size: int) -> str:
    """Return *size* in bytes as a text in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size, 1) / 1e6:.1f} MB"  # noqa: PLR2004 - a unit
