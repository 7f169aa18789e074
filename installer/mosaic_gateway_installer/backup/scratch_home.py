"""A temporary home for a trial restore, beside the backups."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mosaic_gateway.engines.postgres.sockets import outside_directories
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.fs.staging import remove_tree, temporary
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.environment import process_environment, runtime_directory
from mosaic_gateway_installer.backup.stored_backups import backups_of

__all__ = ["scratch_home"]


@contextmanager
def scratch_home(home: Home) -> Iterator[Home]:
    """Yield a temporary home in the backups' directory of *home*; remove it and its socket directories afterwards."""
    directory = backups_of(home)
    created = not directory.exists()
    make_directory(directory)
    try:
        with temporary(directory / "verify") as path:
            make_directory(path)
            scratch = Home(path)
            try:
                yield scratch
            finally:
                for sockets in outside_directories(scratch, runtime_directory(process_environment())):
                    remove_tree(sockets)
    finally:
        if created:
            with suppress(OSError):
                directory.rmdir()
