"""Migrations: bundle → plan → runner → ledger and progress.

``from mosaic_gateway.migrations import Bundle, migrate`` is the public API. Both names are imported on
first use, so that the build, which needs only the hash lock, does not need a PostgreSQL driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mosaic_gateway.migrations.bundle import Bundle
    from mosaic_gateway.migrations.runner import migrate

__all__ = ["Bundle", "migrate"]


def __getattr__(name: str) -> Any:
    if name == "Bundle":
        from mosaic_gateway.migrations.bundle import Bundle  # noqa: PLC0415 - lazy on purpose

        return Bundle
    if name == "migrate":
        from mosaic_gateway.migrations.runner import migrate  # noqa: PLC0415 - lazy on purpose

        return migrate
    raise AttributeError(name)
