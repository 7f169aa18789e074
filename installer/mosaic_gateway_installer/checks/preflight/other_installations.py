"""Other installations of ours on this machine: not in the way, but perhaps the one that was meant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mosaic_gateway.config import SYSTEM_HOME, default_home
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.file_lock import holder_of
from mosaic_gateway_installer.checks.finding import AdviceError, Check
from mosaic_gateway_installer.checks.preflight.target import Subject
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt

__all__ = ["CHECKS"]


class OtherInstallationError(AdviceError):
    """There is another installation, on its own data."""

    code = "OTHER_INSTALLATION"


def others(subject: Subject) -> str:
    """Look where installations usually are. Raises `OtherInstallationError` for one that is not this one."""
    found = []
    for place in _usual_places(subject.config.home.path):
        receipt = _receipt(place)
        if receipt is not None:
            state = "data kept" if receipt.state is ReceiptState.RETAINED else f"version {receipt.version}"
            running = ", running" if _runs(Home(place)) else ""
            found.append(f"{place} ({state}{running})")
    if found:
        raise OtherInstallationError(
            f"there is another installation: {', '.join(found)}",
            hint=f"If that one is meant, name it: --home {found[0].partition(' (')[0]}. The two share nothing.",
        )
    return "no other installation in the usual places"


def _usual_places(ours: Path) -> Iterator[Path]:
    """Yield where an installation of this user or of root would be, other than *ours*."""
    for place in dict.fromkeys((default_home({}), SYSTEM_HOME)):
        if place.resolve() != ours.resolve():
            yield place


def _receipt(place: Path) -> Receipt | None:
    with suppress(MosaicError, OSError):  # closed to us: then it is not one that was meant
        return read_receipt(Home(place))
    return None


def _runs(home: Home) -> bool:
    with suppress(OSError):
        return holder_of(home.gateway_lock) is not None
    return False


CHECKS: tuple[Check[Subject], ...] = (Check(id="others", run=others),)
