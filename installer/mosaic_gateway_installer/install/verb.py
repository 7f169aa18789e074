"""The verb ``install``: install or complete an installation, start the gateway and run the smoke test."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.auth.links import setup_url
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.config import Config, load_config
from mosaic_gateway.engines.base import CpuUnsupportedError
from mosaic_gateway.errors import MosaicError, SmokeTestError
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.hint import command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.home_lock import naming_lock_holder
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import Receipt, ReceiptState, installed, read_receipt, write_receipt
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway_installer.checks.finding import CheckResult, finding_lines
from mosaic_gateway_installer.checks.home_errors import RunAsError
from mosaic_gateway_installer.checks.host import read_host
from mosaic_gateway_installer.checks.preflight import check_install, examine_install, inspect_home
from mosaic_gateway_installer.checks.preflight.target import Subject
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.engine_selection import AUTO, EngineSelection, probe_engines, select_engine
from mosaic_gateway_installer.install.options import InstallOptions
from mosaic_gateway_installer.install.report import done_outcome, planned_outcome
from mosaic_gateway_installer.install.retry_hint import advise_retry
from mosaic_gateway_installer.install.smoke_test import smoke_test
from mosaic_gateway_installer.install.step_selection import pending
from mosaic_gateway_installer.install.steps.gateway import StartStep
from mosaic_gateway_installer.install.steps.retained_data import RetainedDataBackupStep
from mosaic_gateway_installer.session import Recovery, needs_recovery, session
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.step_runner import execute, interruptible
from mosaic_gateway_installer.uninstall.inventory import erase_leftovers
from mosaic_gateway_installer.upgrade.major_version import remove_record

__all__ = ["account_of_home", "inspected", "install", "install_locked", "new_home"]

LOG = logging.getLogger(__name__)
LOG_LINES = 20


def account_of_home(home: Home) -> str | None:
    """Return the account that owns an installation by root, None for an ordinary user's installation."""
    name = home.broker.facts.get("account") if home.broker is not None else None
    return str(name) if name is not None else None


def install(home: Home, options: InstallOptions) -> Outcome:
    """Install into *home*, or complete, adopt or reconfigure what exists there.

    Raises PreflightError, RefusedError, BusyError, MigrationError, SmokeTestError and OSError, after the changes of
    this run were rolled back.
    """
    if os.path.exists(home.receipt) and needs_recovery(home) and not options.dry_run:  # noqa: PTH110 - Path's raises for a name too long
        with session(home, "install"):
            pass
    with naming_lock_holder(home):
        receipt, target, findings = inspected(home, options)
        if options.dry_run:
            return _planned(target, findings, options)
        check_install(findings)
    if home.broker is not None and home.broker.facts.get("only_checks"):
        return Outcome()
    try:
        return _install(target, options, receipt)
    except MosaicError as error:
        if error.code != CpuUnsupportedError.code or not target.engine_chosen or read_receipt(home) is not None:
            advise_retry(error, command("install"))
            raise
        LOG.warning("PostgreSQL does not run on this machine: %s", error.message)
        return install(home, replace(options, postgres_failed=error.message))


def inspected(
    home: Home, options: InstallOptions, *, upgrading: bool = False
) -> tuple[Receipt | None, Target, tuple[CheckResult, ...]]:
    """Return the receipt in *home*, the target state, and the results of the preflight checks."""
    receipt, fault = inspect_home(home)
    try:
        target = _target(home, options, receipt)
    except MosaicError:
        if fault is not None:
            raise fault from None
        raise
    subject = Subject(
        config=target.config,
        receipt=receipt,
        home_fault=fault,
        accept_secret=options.accept_secret,
        upgrading=upgrading,
        host=read_host(),
    )
    return receipt, target, examine_install(subject)


def install_locked(home: Home, options: InstallOptions, report: Reporter) -> Outcome:
    """Run the checks and steps of `install` in an existing home whose lock the caller holds."""
    _, target, findings = inspected(home, options)
    check_install(findings)
    return _run(target, options, pending(target, options), report)


@contextmanager
def new_home(target: Target) -> Iterator[None]:
    """Create the home and its missing parents; remove those again that are empty after the block."""
    with interruptible():
        for directory in target.new_directories:
            make_directory(directory)
        try:
            yield
        finally:
            for directory in reversed(target.new_directories):
                with suppress(OSError):  # not empty: the installation succeeded, or it contains foreign files
                    directory.rmdir()


def _install(target: Target, options: InstallOptions, receipt: Receipt | None) -> Outcome:
    with new_home(target), session(target.home, "install", recovery=Recovery.NOTHING) as report:
        if read_receipt(target.home) != receipt:  # another installer changed it before the lock was acquired
            _, target, findings = inspected(target.home, options)
            check_install(findings)
        return _run(target, options, pending(target, options), report)


def _run(target: Target, options: InstallOptions, steps: Sequence[Step], report: Reporter) -> Outcome:
    def finish() -> tuple[dict[str, Any] | None, str | None]:
        smoke = link = None
        if options.start:
            report.begin("Running the smoke test")
            fresh = any(step.id is StepId.CLUSTER for step in steps)
            smoke = _smoke_test(target, needs_setup=True if fresh else None)
            report.done("The smoke test passed")
            link = _link(target, steps) if smoke["needsSetup"] else None
        _complete(target, options)
        return smoke, link

    try:
        smoke, link = execute("install", steps, target.journal, report, finish)
    except MosaicError as error:
        for step in steps:
            if isinstance(step, RetainedDataBackupStep) and step.created is not None and step.created.exists():
                error.add_note(f"The backup of the data before the migration: {step.created}")
        raise
    erase_leftovers(target.home)
    return done_outcome(target, steps, smoke, link)


def _target(home: Home, options: InstallOptions, receipt: Receipt | None) -> Target:
    flags = {
        "host": options.host,
        "port": options.port,
        "engine": None if options.engine == AUTO else options.engine,
        "database_url": options.database_url,
        "postgres_bin": options.postgres_bin,
        "pglite_dir": options.pglite_dir,
        "base_url": options.base_url,
    }
    if options.run_as is not None and home.broker is None:
        raise RunAsError("only root can install for another user", hint="Run without --run-as, or as root.")
    config = load_config(home, flags=flags, environ=process_environment())
    choice = _engine(config, options, receipt)
    return Target(
        home=home,
        config=replace(config, engine=choice.engine),
        engine_reason=choice.reason,
        engine_chosen=receipt is None and "engine" not in config.sources and config.postgres_bin is None,
        account_name=account_of_home(home),
        new_directories=tuple(reversed([path for path in (home.path, *home.path.parents) if not path.exists()])),
    )


def _engine(config: Config, options: InstallOptions, receipt: Receipt | None) -> EngineSelection:
    """Return the engine that is configured, else that of the existing home, else one selected for a new home."""
    if "engine" in config.sources:
        retained = receipt.engine_reason if receipt is not None and receipt.engine == config.engine else ""
        return EngineSelection(config.engine, retained or f"set by {config.sources['engine']}")
    if receipt is not None:
        return EngineSelection(EngineName(receipt.engine), receipt.engine_reason)
    postgres, node = probe_engines(config, postgres_failed=options.postgres_failed)
    return select_engine(postgres, node, postgres_bin=config.postgres_bin)


def _complete(target: Target, options: InstallOptions) -> None:
    """Mark the installation as complete in the receipt, and delete the journal."""
    receipt = installed(target.home)
    identity = data_identity_of(target.home, target.config.auth_secret)
    complete = replace(
        receipt,
        service_wanted=receipt.service_wanted if options.service is None else options.service,
        state=ReceiptState.INSTALLED,
        retained=(),
        system_identifier=identity.system_identifier,
        secret_check=identity.secret_check,
        version=__version__,
        schema=schema_digest(load_bundles()),
    )
    if complete != receipt:
        write_receipt(target.home, complete)
    remove_record(target.home)
    target.journal.close()


def _smoke_test(target: Target, *, needs_setup: bool | None) -> dict[str, Any]:
    """Run the smoke test; add the end of the gateway's log to an error, because the roll-back may delete the log."""
    try:
        return smoke_test(target.config.local_url, needs_setup=needs_setup)
    except SmokeTestError as error:
        error.add_note("\n".join(["The end of the log:", *tail_of(target.home.gateway_log, LOG_LINES)]))
        raise


def _link(target: Target, steps: Sequence[Step]) -> str | None:
    """Return a link for the creation of the first admin, None if an earlier link is still valid."""
    for step in steps:
        if isinstance(step, StartStep) and step.started is not None and step.launch.launched is not None:
            return step.started.setup_url  # the gateway started by this run has issued the link
    from mosaic_gateway.auth import accounts

    with open_database(target.config) as conninfo:
        if accounts.has_setup_token(conninfo):
            return None
        return setup_url(target.config.url, accounts.issue_setup_token(conninfo))


def _planned(target: Target, findings: Sequence[CheckResult], options: InstallOptions) -> Outcome:
    checks = {"checks": [finding.to_dict() for finding in findings]}
    try:
        check_install(findings)
    except MosaicError as error:
        return Outcome(result={"dry_run": True, **checks}, lines=finding_lines(findings), error=error)
    return planned_outcome(target, findings, pending(target, options))
