"""Migrations: bundle → plan → runner → ledger and progress.

- The public API: ``from mosaic_gateway.migrations import Bundle, migrate``. Reading only: `read_plan`, `read_state`.
- For databases that other means created or interrupted: `baseline`, `resolve`.
- The hash lock: `check_bundles`. For authors: `new_migration`, and `lint` as a package of its own.
- What a run reports: `events`.

Names are imported at their first use, so the build, which needs only the hash lock, does not need a PostgreSQL driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mosaic_gateway.lazy_names import lazy_names

if TYPE_CHECKING:
    from mosaic_gateway.migrations import events
    from mosaic_gateway.migrations.advisory_lock import DEFAULT_LOCK_TIMEOUT, MigrationsBusyError
    from mosaic_gateway.migrations.authoring import new_migration
    from mosaic_gateway.migrations.baselining import baseline, scratch_on
    from mosaic_gateway.migrations.bundle import LEDGERS, Bundle, LedgerName
    from mosaic_gateway.migrations.compatibility import breaking
    from mosaic_gateway.migrations.gate import BUNDLES, LOCK_NAME, check_bundles, read_directory
    from mosaic_gateway.migrations.matching import match
    from mosaic_gateway.migrations.model import AppliedRow, LedgerState, Migration, Plan, PlannedMigration
    from mosaic_gateway.migrations.plan import shorten
    from mosaic_gateway.migrations.resolution import ResolveAnswer, resolve
    from mosaic_gateway.migrations.runner import MigrationReport, migrate, read_plan, read_state, report_up_to_date
    from mosaic_gateway.migrations.schema_fingerprint import differences, schema_lines
    from mosaic_gateway.migrations.session_settings import migration_session_if_direct
else:
    __getattr__ = lazy_names(
        __name__,
        "events",
        advisory_lock="DEFAULT_LOCK_TIMEOUT MigrationsBusyError",
        authoring="new_migration",
        baselining="baseline scratch_on",
        bundle="LEDGERS Bundle LedgerName",
        compatibility="breaking",
        gate="BUNDLES LOCK_NAME check_bundles read_directory",
        matching="match",
        model="AppliedRow LedgerState Migration Plan PlannedMigration",
        plan="shorten",
        resolution="ResolveAnswer resolve",
        runner="MigrationReport migrate read_plan read_state report_up_to_date",
        schema_fingerprint="differences schema_lines",
        session_settings="migration_session_if_direct",
    )

__all__ = [
    "BUNDLES",
    "DEFAULT_LOCK_TIMEOUT",
    "LEDGERS",
    "LOCK_NAME",
    "AppliedRow",
    "Bundle",
    "LedgerName",
    "LedgerState",
    "Migration",
    "MigrationReport",
    "MigrationsBusyError",
    "Plan",
    "PlannedMigration",
    "ResolveAnswer",
    "baseline",
    "breaking",
    "check_bundles",
    "differences",
    "events",
    "match",
    "migrate",
    "migration_session_if_direct",
    "new_migration",
    "read_directory",
    "read_plan",
    "read_state",
    "report_up_to_date",
    "resolve",
    "schema_lines",
    "scratch_on",
    "shorten",
]
