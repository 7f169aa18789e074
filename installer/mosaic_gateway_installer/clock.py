"""Check of the system clock without a network: it must not be earlier than any recorded event."""

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
#: A clock this far after the package's newest migration is more likely wrong than the package is that old.
LONG_AFTER = timedelta(days=10 * 365)
HINT = "Set the clock (timedatectl set-ntp true): sessions, links and certificates depend on it."


class ClockError(PreflightError):
    """The clock is earlier than a recorded event."""

    code = "CLOCK_BEHIND"


class ClockAheadError(AdviceError):
    """The clock is many years later than the release of this package."""

    code = "CLOCK_AHEAD"


def check_clock(now: datetime, home: Home, receipt: Receipt | None) -> str:
    """Return a sentence that reports the time *now*. Raises `ClockError`, `ClockAheadError`."""
    released = _release_time()
    for event, when in (("this package was released", released), *_events(home, receipt)):
        if now + TOLERANCE < when:
            raise ClockError(
                f"the clock says {_text(now)}, but {event} at {_text(when)}",
                hint=HINT,
                details={"now": now.isoformat(), "after": when.isoformat()},
            )
    if released.timestamp() and now > released + LONG_AFTER:
        raise ClockAheadError(f"the clock says {_text(now)}; this package was released at {_text(released)}", hint=HINT)
    return f"the clock says {_text(now)}"


def _release_time() -> datetime:
    """Return the time of the package's newest migration, or the epoch if the package is damaged.

    Another check reports the damage.
    """
    try:
        newest = max(migration.when for bundle in load_bundles() for migration in bundle.migrations)
    except MosaicError:
        newest = 0
    return datetime.fromtimestamp(newest / 1000, UTC)


def _events(home: Home, receipt: Receipt | None) -> Iterator[tuple[str, datetime]]:
    if receipt is not None:
        with suppress(ValueError):
            yield "this installation was created", datetime.fromisoformat(receipt.created_at)
    for path in _recently_written_files(home):
        with suppress(OSError):
            yield f"{path} was written", datetime.fromtimestamp(path.stat().st_mtime, UTC)


def _recently_written_files(home: Home) -> Iterator[Path]:
    yield from (home.config_file, home.receipt, home.gateway_log, home.postgres_log)
    with suppress(OSError):
        yield from (cluster / "global" / "pg_control" for cluster in home.data.glob("postgres-*"))


def _text(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
