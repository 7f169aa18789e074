"""Why a place cannot be a home, as root's process and the verb both find."""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError, RefusedError

__all__ = ["HomeForeignError", "HomeUnusableError"]


class HomeUnusableError(PreflightError):
    """The home cannot be made or used where it was asked for."""

    code = "HOME_UNUSABLE"


class HomeForeignError(RefusedError):
    """The directory holds something that no installation of ours put there."""

    code = "HOME_FOREIGN"
