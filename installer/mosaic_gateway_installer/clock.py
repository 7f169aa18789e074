"""Is the clock right? Known without a network: it must stand after everything that has happened already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.checks.finding import AdviceError
from mosaic_gateway_installer.receipt import Receipt

__all__ = ["ClockError", "check_clock"]

TOLERANCE = timedelta(minutes=5)
#: A clock this far after the newest migration of the package is more likely wrong than the package that old.
LONG_AFTER = timedelta(days=10 * 365)
HINT = "Set the clock (timedatectl set-ntp true): sessions, links and certificates depend on it."


class ClockError(PreflightError):
    """The clock stands before something that has happened."""

    code = "CLOCK_BEHIND"


class ClockAheadError(AdviceError):
    """The clock stands many years after this package was made."""

    code = "CLOCK_AHEAD"


def check_clock(now: datetime, home: Home, receipt: Receipt | None) -> str:
    """Return what is well about *now*. Raises `ClockError`, `ClockAheadError`."""
    released = _released()
    for what, when in (("this package was made", released), *_events(home, receipt)):
        if now + TOLERANCE < when:
            raise ClockError(
                f"the clock says {_text(now)}, but {what} at {_text(when)}",
                hint=HINT,
                details={"now": now.isoformat(), "after": when.isoformat()},
            )
    if released.timestamp() and now > released + LONG_AFTER:
        raise ClockAheadError(f"the clock says {_text(now)}; this package was made at {_text(released)}", hint=HINT)
    return f"the clock says {_text(now)}"


def _released() -> datetime:
    """The package cannot be older than its newest migration. A damaged one says nothing, and another check tells."""
    try:
        newest = max(migration.when for bundle in load_bundles() for migration in bundle.migrations)
    except MosaicError:
        newest = 0
    return datetime.fromtimestamp(newest / 1000, UTC)


def _events(home: Home, receipt: Receipt | None) -> Iterator[tuple[str, datetime]]:
    if receipt is not None:
        with suppress(ValueError):
            yield "this installation was made", datetime.fromisoformat(receipt.created_at)
    for path in _written(home):
        with suppress(OSError):
            yield f"{path} was written", datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _written(home: Home) -> Iterator[Path]:
    yield from (home.config_file, home.receipt, home.gateway_log, home.postgres_log)
    with suppress(OSError):
        yield from (cluster / "global" / "pg_control" for cluster in home.data.glob("postgres-*"))


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
