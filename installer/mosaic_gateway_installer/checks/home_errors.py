"""Errors for a directory that cannot be a home, raised by root's process and by the verb."""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError, RefusedError, UsageError

__all__ = ["HomeForeignError", "HomeModeError", "HomeUnusableError", "RunAsError"]


class HomeUnusableError(PreflightError):
    """The home cannot be created or used at the given path."""

    code = "HOME_UNUSABLE"


class HomeForeignError(RefusedError):
    """The directory contains files that do not belong to an installation."""

    code = "HOME_FOREIGN"


class HomeModeError(PreflightError):
    """The home, or something in it, is open to other users, closed to its owner, or owned by another user."""

    code = "HOME_MODE"


class RunAsError(UsageError):
    """The account given with ``--run-as`` cannot own the installation."""

    code = "RUN_AS"
