"""The hint of a failed verb whose changes were rolled back."""

from __future__ import annotations

from mosaic_gateway.errors import ExitCode, InternalError, MosaicError
from mosaic_gateway.gateway.control import GatewayStartError
from mosaic_gateway.hint import Hint

__all__ = ["advise_retry"]

START_FAILED = {GatewayStartError.code, InternalError.code}  # it exited without a message, or with an unexpected error


def advise_retry(error: MosaicError, again: Hint) -> None:
    """Set the hint of *error* to the command *again*, if its own hint assumes that the changes are still in place."""
    # By code: a gateway that exits passes its error to the process that started it as JSON, without the class.
    if error.exit_code in {ExitCode.MIGRATION, ExitCode.SMOKE_TEST} or error.code in START_FAILED:
        error.hint = "Remove the cause, then run it again: " + again
