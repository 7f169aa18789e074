"""A temporary home for a trial restore, beside the backups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mosaic_gateway import fs
from mosaic_gateway.engines import postgres
from mosaic_gateway.installation import Home
from mosaic_gateway.process import process_environment, runtime_directory
from mosaic_gateway_installer.backup.stored_backups import backups_of

__all__ = ["scratch_home"]


@contextmanager
def scratch_home(home: Home) -> Iterator[Home]:
    """Yield a temporary home in the backups' directory of *home*; remove it and its socket directories afterwards."""
    directory = backups_of(home)
    created = not directory.exists()
    fs.make_directory(directory)
    try:
        with fs.temporary(directory / "verify") as path:
            fs.make_directory(path)
            scratch = Home(path)
            try:
                yield scratch
            finally:
                for sockets in postgres.outside_directories(scratch, runtime_directory(process_environment())):
                    fs.remove_tree(sockets)
    finally:
        if created:
            with suppress(OSError):
                directory.rmdir()
