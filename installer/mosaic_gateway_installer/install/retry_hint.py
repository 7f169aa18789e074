"""What a failure advises once all has been taken back."""

from __future__ import annotations

from mosaic_gateway.errors import ExitCode, InternalError, MosaicError
from mosaic_gateway.gateway.control.gateway_process import GatewayStartError

__all__ = ["advise_again"]

START_FAILED = {GatewayStartError.code, InternalError.code}  # it died without a word, or of what nobody foresaw


def advise_again(error: MosaicError, verb: str) -> None:
    """Have *error* advise to run *verb* again, where its own hint is for a home that is as the failure left it."""
    # By its code: a gateway that ended hands its error on to whoever started it, without the class.
    if error.exit_code in {ExitCode.MIGRATION, ExitCode.SMOKE_TEST} or error.code in START_FAILED:
        error.hint = f"Remove the cause, then run it again: mosaic-gateway {verb}"
