"""Errors for a directory that cannot be a home, raised by root's process and by the verb."""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError, RefusedError

__all__ = ["HomeForeignError", "HomeUnusableError"]


class HomeUnusableError(PreflightError):
    """The home cannot be created or used at the given path."""

    code = "HOME_UNUSABLE"


class HomeForeignError(RefusedError):
    """The directory contains files that do not belong to an installation."""

    code = "HOME_FOREIGN"
