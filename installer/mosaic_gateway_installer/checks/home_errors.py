"""Errors for a directory that cannot be a home, raised by root's process and by the verb."""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError, RefusedError, UsageError
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home, Receipt

__all__ = [
    "HomeForeignError",
    "HomeModeError",
    "HomeUnusableError",
    "OwnerCannotRunError",
    "PurgeInterruptedError",
    "RunAsError",
    "purge_interrupted",
]


class HomeUnusableError(PreflightError):
    """The home cannot be created or used at the given path."""

    code = "HOME_UNUSABLE"


class HomeForeignError(RefusedError):
    """The directory contains files that do not belong to an installation."""

    code = "HOME_FOREIGN"


class HomeModeError(PreflightError):
    """The home, or something in it, is open to other users, closed to its owner, or owned by another user."""

    code = "HOME_MODE"


class PurgeInterruptedError(RefusedError):
    """A purge of the home was interrupted; its data is partly deleted."""

    code = "PURGE_INTERRUPTED"


class OwnerCannotRunError(RefusedError):
    """Root's Python is closed to the home's owner, so a program copied from it would be useless to the owner."""

    code = "OWNER_CANNOT_RUN"


class RunAsError(UsageError):
    """The account given with ``--run-as`` cannot own the installation."""

    code = "RUN_AS"


def purge_interrupted(home: Home, receipt: Receipt) -> PurgeInterruptedError:
    """Return the error for a home whose purge is not complete."""
    return PurgeInterruptedError(
        f"a purge of {home.path} was interrupted",
        hint="Complete it: " + command("uninstall", f"--purge={receipt.instance_id}", home=home.path),
    )
