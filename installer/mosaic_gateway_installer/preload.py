"""What a verb reads of its own package and of the packages beside it, read before root is given up."""

from __future__ import annotations

from contextlib import suppress

from mosaic_gateway.engines.pglite.shipped import shipped
from mosaic_gateway.engines.postgres.runtime import examine_wheel, locate_wheel, wheel_version
from mosaic_gateway.engines.postgres.runtime_copy import size_of_copy
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway_installer.checks.picture import read_picture
from mosaic_gateway_installer.snapshot.store import base_interpreter

__all__ = ["read_package"]


def read_package() -> None:
    """Read it. What is missing is found missing again, and said, where it is needed."""
    base_interpreter()
    for read in (load_bundles, shipped, read_picture, wheel_version, examine_wheel):
        with suppress(MosaicError, OSError):
            read()
    with suppress(MosaicError, OSError):
        size_of_copy(locate_wheel())
