"""The verb ``install``: install or complete an installation, start the gateway and run the smoke test."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from mosaic_gateway.cli import Outcome, Reporter
from mosaic_gateway.engines import CpuUnsupportedError
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home, naming_lock_holder, read_receipt
from mosaic_gateway_installer.checks.finding import CheckResult, finding_lines
from mosaic_gateway_installer.checks.preflight import check_install
from mosaic_gateway_installer.install.completion import complete
from mosaic_gateway_installer.install.inspection import inspected
from mosaic_gateway_installer.install.plan import InstallOptions, pending
from mosaic_gateway_installer.install.report import advise_retry, done_outcome, planned_outcome
from mosaic_gateway_installer.session import Recovery, needs_recovery, new_home, session
from mosaic_gateway_installer.step import Target
from mosaic_gateway_installer.step_runner import execute
from mosaic_gateway_installer.uninstall.inventory import erase_leftovers

__all__ = ["install", "install_locked"]

LOG = logging.getLogger(__name__)


def install(home: Home, options: InstallOptions) -> Outcome:
    """Install into *home*, or complete, adopt or reconfigure what exists there.

    Raises PreflightError, RefusedError, BusyError, MigrationError, SmokeTestError and OSError, after the changes of
    this run were rolled back.
    """
    if os.path.exists(home.receipt) and needs_recovery(home) and not options.dry_run:  # noqa: PTH110 - Path's raises for a name too long
        with session(home, "install"):
            pass
    with naming_lock_holder(home):
        target, findings = inspected(home, options)
        if options.dry_run:
            return _planned(target, findings, options)
        check_install(findings)
    if home.broker is not None and home.broker.facts.get("only_checks"):
        return Outcome()
    try:
        return _install(target, findings, options)
    except MosaicError as error:
        if error.code != CpuUnsupportedError.code or not target.engine_chosen or read_receipt(home) is not None:
            advise_retry(error, command("install"))
            raise
        LOG.warning("PostgreSQL does not run on this machine: %s", error.message)
        return install(home, replace(options, postgres_failed=error.message))


def install_locked(home: Home, options: InstallOptions, report: Reporter) -> Outcome:
    """Run the checks and steps of `install` in an existing home whose lock the caller holds."""
    target, findings = inspected(home, options)
    check_install(findings)
    return _run(target, findings, options, report)


def _install(target: Target, findings: Sequence[CheckResult], options: InstallOptions) -> Outcome:
    with new_home(target.new_directories), session(target.home, "install", recovery=Recovery.NOTHING) as report:
        if read_receipt(target.home) != target.receipt:  # another installer changed it before the lock was acquired
            target, findings = inspected(target.home, options)
            check_install(findings)
        return _run(target, findings, options, report)


def _run(target: Target, findings: Sequence[CheckResult], options: InstallOptions, report: Reporter) -> Outcome:
    steps = pending(target, options)
    smoke, link = execute("install", steps, target.journal, report, lambda: complete(target, options, steps, report))
    erase_leftovers(target.home)
    return done_outcome(target, findings, steps, smoke, link)


def _planned(target: Target, findings: Sequence[CheckResult], options: InstallOptions) -> Outcome:
    checks = {"checks": [finding.to_dict() for finding in findings]}
    try:
        check_install(findings)
    except MosaicError as error:
        return Outcome(result={"dry_run": True, **checks}, lines=finding_lines(findings), error=error)
    return planned_outcome(target, findings, pending(target, options))
