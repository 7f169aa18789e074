"""Room for what is about to be written."""

from __future__ import annotations

import shutil

from mosaic_gateway.config import EngineName
from mosaic_gateway.engines.base import DiskFullError
from mosaic_gateway.engines.postgres.cluster import cluster_of
from mosaic_gateway_installer.preflight.subject import Subject

__all__ = ["NEEDED_SPACE", "space"]

#: Bytes that a fresh installation takes: programs 30 MB, cluster 55 MB, reserve 64 MB, log of changes 64 MB.
NEEDED_SPACE = 220 * 1024 * 1024


def space(subject: Subject) -> str:
    """Hold the free bytes against what a fresh installation takes. Raises `DiskFullError`."""
    subject.need_home()
    config = subject.config
    place = next(path for path in (config.home.path, *config.home.path.parents) if path.exists())
    free = shutil.disk_usage(place).free
    needed = NEEDED_SPACE if cluster_of(config.home) is None and config.engine is EngineName.POSTGRES else 0
    if free < needed:
        raise DiskFullError(
            f"{place} has {free // 1024**2} MB free; a new installation needs {needed // 1024**2} MB",
            hint="Make room, or choose another --home.",
            details={"free_bytes": free, "needed_bytes": needed},
        )
    return f"{free // 1024**2} MB free in {place}, {needed // 1024**2} MB needed"
