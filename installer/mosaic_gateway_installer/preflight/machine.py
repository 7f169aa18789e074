"""The machine: operating system, interpreter, processor."""

from __future__ import annotations

import sys

from mosaic_gateway.errors import PreflightError
from mosaic_gateway_installer.preflight.subject import Subject

__all__ = ["platform"]


def platform(_subject: Subject) -> str:
    """Linux and macOS are supported."""
    if sys.platform not in {"linux", "darwin"}:
        raise PreflightError(f"{sys.platform} is not supported", hint="Use Linux or macOS.")
    return sys.platform
