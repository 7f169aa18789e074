"""The options of ``install``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["InstallOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """The options that the caller gave; None means the existing value, or the default.

    ``postgres_failed``: the error of an attempt with PostgreSQL, selected automatically, that was rolled back.
    ``backup``: retained data that has to be migrated is backed up first.
    """

    host: str | None = None
    port: int | None = None
    engine: str | None = None
    database_url: str | None = None
    postgres_bin: Path | None = None
    pglite_dir: Path | None = None
    base_url: str | None = None
    run_as: str | None = None
    start: bool = True
    dry_run: bool = False
    accept_secret: bool = False
    postgres_failed: str | None = None
    backup: bool = True
    service: bool | None = None
