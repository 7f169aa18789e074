"""The verb ``upgrade``: replaces the program of a home by this package, and rolls back on any failure."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from mosaic_gateway import cli, installation
from mosaic_gateway.config import load_config
from mosaic_gateway.engines import pglite
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.checks.preflight.run import check_install
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.session import Recovery, session
from mosaic_gateway_installer.step_runner import execute
from mosaic_gateway_installer.upgrade.failure import rolled_back
from mosaic_gateway_installer.upgrade.fetch import PackageSource, run_fetched
from mosaic_gateway_installer.upgrade.inspection import Inspection, check_upgrade, inspect
from mosaic_gateway_installer.upgrade.plan import refusal
from mosaic_gateway_installer.upgrade.report import done_outcome, planned_outcome, unchanged_outcome
from mosaic_gateway_installer.upgrade.step_selection import select_steps
from mosaic_gateway_installer.upgrade.steps import final
from mosaic_gateway_installer.upgrade.unfinished import resolve

__all__ = ["fetch_and_upgrade", "upgrade"]

LOG = logging.getLogger(__name__)


def fetch_and_upgrade(home: installation.Home, source: PackageSource, words: Sequence[str]) -> int:
    """Download the package that *source* names, and run its upgrade of *home* with the options *words*.

    Returns the exit code. Root downloads the package itself, before it starts a process of the service account: the
    downloaded files must belong to root.
    """
    may_read = os.geteuid() != 0 or home.programs is not None  # root reads no files in a user's home
    extras = ("pglite",) if may_read and pglite.uses_extra(home) else ()
    return run_fetched(replace(source, extras=extras), ["upgrade", "--home", str(home.path), *words])


def upgrade(home: installation.Home, *, backup: bool, dry_run: bool) -> cli.Outcome:
    """Upgrade *home* to this package, or complete such an upgrade that was killed.

    Without *backup* the data cannot be rolled back. Raises `NotInstalledError`, RefusedError before any write,
    PreflightError, BusyError, MigrationError, SmokeTestError and OSError; the old version then serves again.
    """
    installation.installed(home)
    if dry_run:
        return _planned(inspect(home), backup=backup)
    with session(home, "upgrade", recovery=Recovery.ALL_BUT_UPGRADE) as report:
        undone = resolve(home, report)
        _upgrade_engine(home)
        inspection = inspect(home)
        check_install(inspection.findings)
        if not inspection.is_needed:
            return unchanged_outcome(inspection, undone)
        check_upgrade(inspection, backup=backup)
        return _upgrade(inspection, report, backup=backup)


def _upgrade(inspection: Inspection, report: cli.Reporter, *, backup: bool) -> cli.Outcome:
    run, steps = select_steps(inspection, report, backup=backup)
    pending = [step for step in steps if not step.done()]
    reversible = [step for step in pending if step.id not in final.STEPS]
    with rolled_back(run):
        execute("upgrade", reversible, inspection.target.journal, report, lambda: None)
    if run.launched is not None:
        run.launched.close()
    warnings = []
    for step in (step for step in pending if step.id in final.STEPS):
        report.begin(step.description)
        try:
            step.apply()
        except (OSError, MosaicError) as error:  # the new version serves: no reason to roll back
            LOG.warning("%s: %s", step.id, error)
            warnings.append(f"{step.description}: {error}")
    inspection.target.journal.close()
    return done_outcome(inspection, run, pending, warnings)


def _planned(inspection: Inspection, *, backup: bool) -> cli.Outcome:
    refused = refusal(inspection.facts, backup=backup)
    if not inspection.is_needed or refused is not None:
        return planned_outcome(inspection, [], refused)
    with cli.reporter() as report:
        steps = select_steps(inspection, report, backup=backup)[1]
        return planned_outcome(inspection, [step for step in steps if not step.done()], None)


def _upgrade_engine(home: installation.Home) -> None:
    """Copy the engine's programs into root's programs directory, if version 0.1.0 installed them in the home."""
    if home.programs is None or program_names(home) or not (home.path / "runtime").is_dir():
        return
    config = load_config(home, flags={}, environ=process_environment())
    if config.engine is installation.EngineName.POSTGRES and config.postgres_bin is None:
        programs_of(home).place_postgres()
    elif config.engine is installation.EngineName.PGLITE:
        programs_of(home).place_pglite(config.pglite_dir)
