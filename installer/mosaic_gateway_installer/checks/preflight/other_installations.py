"""Warning about other installations on this machine, one of which may be the intended one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.config import SYSTEM_HOME, default_home
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation import Home, Receipt, ReceiptState, read_receipt
from mosaic_gateway.process import holder_of
from mosaic_gateway_installer.checks.finding import AdviceError, Check
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]


class OtherInstallationError(AdviceError):
    """There is another installation, with its own data."""

    code = "OTHER_INSTALLATION"


def others(target: Target) -> str:
    """Check the default homes. Raises `OtherInstallationError` for an installation in one of them."""
    described = []
    for path in _default_homes(target.home.path):
        receipt = _receipt(path)
        if receipt is not None:
            state = "data retained" if receipt.state is ReceiptState.RETAINED else f"version {receipt.version}"
            running = ", running" if _is_running(Home(path)) else ""
            described.append(f"{path} ({state}{running})")
    if described:
        first = described[0].partition(" (")[0]
        raise OtherInstallationError(
            f"there is another installation: {', '.join(described)}",
            hint=f"To use that one: --home {first}. The two installations share nothing.",
        )
    return "no other installation in the default homes"


def _default_homes(this_home: Path) -> Iterator[Path]:
    """Yield the default homes of this user and of root, except *this_home*."""
    for path in dict.fromkeys((default_home({}), SYSTEM_HOME)):
        if path.resolve() != this_home.resolve():
            yield path


def _receipt(path: Path) -> Receipt | None:
    with suppress(MosaicError, OSError):  # an installation that this user cannot read is not the intended one
        return read_receipt(Home(path))
    return None


def _is_running(home: Home) -> bool:
    with suppress(OSError):
        return holder_of(home.gateway_lock) is not None
    return False


CHECKS: tuple[Check, ...] = (Check(id="others", run=others),)
