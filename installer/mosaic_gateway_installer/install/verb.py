"""install: from nothing, or from what is there, to a running gateway that passed its smoke test."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.auth.links import setup_url
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import Reporter, reporter
from mosaic_gateway.config import Config, load_config, process_environment
from mosaic_gateway.engines.base import CpuUnsupportedError
from mosaic_gateway.errors import MosaicError, SmokeTestError, UsageError
from mosaic_gateway.fs.files import make_directory
from mosaic_gateway.gateway.database_access import open_database
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway_installer.checks.finding import Finding, finding_lines
from mosaic_gateway_installer.checks.host import read_host
from mosaic_gateway_installer.checks.preflight import check_install, examine_install, look_at_home
from mosaic_gateway_installer.checks.preflight.target import Subject
from mosaic_gateway_installer.home_lock import forget_lock, holding, naming_the_holder
from mosaic_gateway_installer.install.adoption import marks_of
from mosaic_gateway_installer.install.engine_selection import AUTO, Choice, choose, look_at_engines
from mosaic_gateway_installer.install.options import Wishes
from mosaic_gateway_installer.install.report import done_outcome, planned_outcome
from mosaic_gateway_installer.install.retry_hint import advise_again
from mosaic_gateway_installer.install.smoke_test import smoke_test
from mosaic_gateway_installer.install.step_selection import pending
from mosaic_gateway_installer.install.steps.gateway import StartStep
from mosaic_gateway_installer.install.steps.retained_data import KeptDataStep
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, installed, read_receipt, write_receipt
from mosaic_gateway_installer.recovery import needs_recovery, recover
from mosaic_gateway_installer.step import Context, Step
from mosaic_gateway_installer.step_runner import execute, interruptible
from mosaic_gateway_installer.uninstall.inventory import erase_leftovers
from mosaic_gateway_installer.upgrade.major_version import forget_record

__all__ = ["RunAsError", "account_of_home", "install", "install_held", "looked_at", "make_home"]

LOG = logging.getLogger(__name__)
LOG_LINES = 20


class RunAsError(UsageError):
    """The account that was named cannot own an installation."""

    code = "RUN_AS"


def account_of_home(home: Home) -> str | None:
    """Return the account that root's installation belongs to, None for an ordinary user's."""
    name = home.broker.facts.get("account") if home.broker is not None else None
    return str(name) if name is not None else None


def install(home: Home, wishes: Wishes) -> Outcome:
    """Install into *home*, or complete, adopt or re-configure what is there.

    Raises PreflightError, RefusedError, BusyError, MigrationError, SmokeTestError and OSError; what this
    run had changed is taken back first.
    """
    if os.path.exists(home.receipt) and needs_recovery(home) and not wishes.dry_run:  # noqa: PTH110 - Path's raises for a name too long
        with reporter() as report, holding(home, "install"):
            recover(home, report)
    with naming_the_holder(home):
        receipt, context, findings = looked_at(home, wishes)
        if wishes.dry_run:
            return _planned(context, findings, wishes)
        check_install(findings)
    if home.broker is not None and home.broker.facts.get("only_checks"):
        return Outcome()
    try:
        with interruptible():
            return _install(context, wishes, receipt)
    except MosaicError as error:
        if error.code != CpuUnsupportedError.code or not context.engine_chosen or read_receipt(home) is not None:
            advise_again(error, "install")
            raise
        LOG.warning("PostgreSQL was tried and does not run here: %s", error.message)
        return install(home, replace(wishes, postgres_failed=error.message))


def looked_at(
    home: Home, wishes: Wishes, *, upgrading: bool = False
) -> tuple[Receipt | None, Context, tuple[Finding, ...]]:
    """Return what is there, what shall be, and what the checks say to it."""
    receipt, fault = look_at_home(home)
    try:
        context = _context(home, wishes, receipt)
    except MosaicError:
        if fault is not None:
            raise fault from None
        raise
    subject = Subject(
        config=context.config,
        receipt=receipt,
        home_fault=fault,
        accept_secret=wishes.accept_secret,
        upgrading=upgrading,
        host=read_host(),
    )
    return receipt, context, examine_install(subject)


def install_held(home: Home, wishes: Wishes, report: Reporter) -> Outcome:
    """Do as `install` does in a home that is there and whose lock the caller holds."""
    _, context, findings = looked_at(home, wishes)
    check_install(findings)
    return _run(context, wishes, pending(context, wishes), report)


def make_home(directories: Sequence[Path]) -> None:
    """Make the home (the last one) and its parents."""
    for directory in directories:
        make_directory(directory)


def _install(context: Context, wishes: Wishes, receipt: Receipt | None) -> Outcome:
    home = context.home
    make_home(context.new_directories)
    try:
        with holding(home, "install"):
            try:
                if read_receipt(home) != receipt:  # another installer has been here since
                    _, context, findings = looked_at(home, wishes)
                    check_install(findings)
                steps = pending(context, wishes)
                with reporter() as report:
                    return _run(context, wishes, steps, report)
            finally:
                if read_receipt(home) is None:
                    _leave_no_trace(context)
    finally:
        for directory in reversed(context.new_directories):
            with suppress(OSError):  # not empty: all went well, or somebody else uses it
                directory.rmdir()


def _run(context: Context, wishes: Wishes, steps: Sequence[Step], report: Reporter) -> Outcome:
    smoke: dict[str, Any] | None = None
    link: str | None = None

    def finish() -> None:
        nonlocal smoke, link
        if wishes.start:
            report.begin("Asking the gateway")
            fresh = any(step.id == "cluster" for step in steps)
            smoke = _smoke_test(context, needs_setup=True if fresh else None)
            report.done("The gateway answers as it must")
            if smoke["needsSetup"]:
                link = _link(context, steps)
        _complete(context, wishes)

    with _backup_named(steps):
        execute("install", steps, context.journal, report, finish)
    erase_leftovers(context.home)
    return done_outcome(context, steps, smoke, link)


@contextmanager
def _backup_named(steps: Sequence[Step]) -> Iterator[None]:
    """Have an error say where the backup is that was made of data before it was migrated."""
    try:
        yield
    except MosaicError as error:
        for step in steps:
            if isinstance(step, KeptDataStep) and step.made is not None and step.made.exists():
                error.message = f"{error.message}\nThe backup of the data as it was kept: {step.made}"
        raise


def _context(home: Home, wishes: Wishes, receipt: Receipt | None) -> Context:
    flags = {
        "host": wishes.host,
        "port": wishes.port,
        "engine": None if wishes.engine == AUTO else wishes.engine,
        "database_url": wishes.database_url,
        "postgres_bin": wishes.postgres_bin,
        "pglite_dir": wishes.pglite_dir,
        "base_url": wishes.base_url,
    }
    if wishes.run_as is not None and home.broker is None:
        raise RunAsError("only root can install for another user", hint="Leave --run-as out, or run as root.")
    config = load_config(home, flags=flags, environ=process_environment())
    choice = _engine(config, wishes, receipt)
    return Context(
        home=home,
        config=replace(config, engine=choice.engine),
        engine_reason=choice.reason,
        engine_chosen=receipt is None and "engine" not in config.sources and config.postgres_bin is None,
        account_name=account_of_home(home),
        new_directories=tuple(reversed([path for path in (home.path, *home.path.parents) if not path.exists()])),
    )


def _engine(config: Config, wishes: Wishes, receipt: Receipt | None) -> Choice:
    """Return the engine that was named, or that the home has, or that is chosen for a new one."""
    if "engine" in config.sources:
        kept = receipt.engine_reason if receipt is not None and receipt.engine == config.engine else ""
        return Choice(config.engine, kept or f"named: {config.sources['engine']}")
    if receipt is not None:
        return Choice(EngineName(receipt.engine), receipt.engine_reason)
    looked = look_at_engines(config, postgres_failed=wishes.postgres_failed)
    return choose(*looked, postgres_bin=config.postgres_bin)


def _complete(context: Context, wishes: Wishes) -> None:
    """The last word: the receipt says that all is there, and the journal goes."""
    receipt = installed(context.home)
    marks = marks_of(context.home, context.config.auth_secret)
    complete = replace(
        receipt,
        service_wanted=receipt.service_wanted if wishes.service is None else wishes.service,
        state=ReceiptState.INSTALLED,
        kept=(),
        system_identifier=marks.system_identifier,
        secret_check=marks.secret_check,
        version=__version__,
        schema=schema_digest(load_bundles()),
    )
    if complete != receipt:
        write_receipt(context.home, complete)
    forget_record(context.home)
    context.journal.close()


def _smoke_test(context: Context, *, needs_setup: bool | None) -> dict[str, Any]:
    """Ask the gateway; a failure carries the end of its log, which the undoing may remove."""
    try:
        return smoke_test(context.config.local_url, needs_setup=needs_setup)
    except SmokeTestError as error:
        tail = "\n".join(tail_of(context.home.gateway_log, LOG_LINES))
        raise SmokeTestError(
            f"{error.message}\nThe end of the log:\n{tail}", hint=error.hint, details=error.details
        ) from error


def _link(context: Context, steps: Sequence[Step]) -> str | None:
    """Return a link for the first admin, unless an earlier one is still good."""
    for step in steps:
        if isinstance(step, StartStep) and step.started is not None and step.launch.launched is not None:
            return step.started.setup_url  # the gateway that we loaded has seen to it
    from mosaic_gateway.auth import accounts

    with open_database(context.config) as conninfo:
        if accounts.has_setup_token(conninfo):
            return None
        return setup_url(context.config.url, accounts.issue_setup_token(conninfo))


def _leave_no_trace(context: Context) -> None:
    """After the undoing of a first installation: nothing of ours remains, not even the lock."""
    context.journal.close()
    forget_lock(context.home)


def _planned(context: Context, findings: Sequence[Finding], wishes: Wishes) -> Outcome:
    checks = {"checks": [finding.to_dict() for finding in findings]}
    try:
        check_install(findings)
    except MosaicError as error:
        return Outcome(result={"dry_run": True, **checks}, lines=finding_lines(findings), error=error)
    return planned_outcome(context, findings, pending(context, wishes))
