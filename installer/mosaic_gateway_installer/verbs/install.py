"""install: from nothing, or from what is there, to a running gateway that passed its smoke test."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.auth.links import setup_url
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import Reporter, reporter
from mosaic_gateway.config import Config, EngineName, Home, load_config, process_environment
from mosaic_gateway.engines.base import CpuUnsupportedError, DiskFullError
from mosaic_gateway.engines.postgres.runtime import FULL_DISK
from mosaic_gateway.errors import MosaicError, PreflightError, SmokeTestError
from mosaic_gateway.files import make_directory
from mosaic_gateway.gateway.opening import open_database
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.gateway.service import Manager, registered_service
from mosaic_gateway.process.account import owner_of
from mosaic_gateway.process.logfile import tail_of
from mosaic_gateway_installer.adoption import marks_of
from mosaic_gateway_installer.choice import AUTO, Choice, choose, look_at_engines
from mosaic_gateway_installer.executor import execute, interruptible
from mosaic_gateway_installer.findings import Finding, finding_lines
from mosaic_gateway_installer.holding import forget_lock, holding, naming_the_holder
from mosaic_gateway_installer.host import read_host
from mosaic_gateway_installer.majors import forget_record
from mosaic_gateway_installer.ownership import choose_account
from mosaic_gateway_installer.plan import install_steps, pending_steps
from mosaic_gateway_installer.preflight import check_install, examine_install, look_at_home
from mosaic_gateway_installer.preflight.subject import Subject
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.recover import needs_recovery, recover
from mosaic_gateway_installer.service.choice import available_manager, lingers
from mosaic_gateway_installer.smoke import smoke_test
from mosaic_gateway_installer.steps.base import Context, Step
from mosaic_gateway_installer.steps.engine import ClusterStep, RuntimeStep
from mosaic_gateway_installer.steps.gateway import LaunchStep, SchemaStep, StartStep, StopStep
from mosaic_gateway_installer.steps.home import AccountStep, HandOverStep, HomeStep
from mosaic_gateway_installer.steps.major_upgrade import MajorUpgradeStep
from mosaic_gateway_installer.steps.pglite import PgliteDataStep, PgliteRuntimeStep
from mosaic_gateway_installer.steps.program import ProgramStep
from mosaic_gateway_installer.steps.service import ServiceStep, service_of
from mosaic_gateway_installer.steps.settings import ConfigStep, SecretStep

__all__ = ["Wishes", "install", "install_held", "looked_at", "make_home"]

LOG = logging.getLogger(__name__)
LOG_LINES = 20
LINGER = "loginctl enable-linger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the caller asked for; None means: as it is, or the default.

    ``postgres_failed``: what an attempt with PostgreSQL died of, that was chosen by ourselves and taken back.
    """

    host: str | None = None
    port: int | None = None
    engine: str | None = None
    database_url: str | None = None
    postgres_bin: Path | None = None
    pglite_dir: Path | None = None
    base_url: str | None = None
    run_as: str | None = None
    start: bool = True
    dry_run: bool = False
    accept_secret: bool = False
    postgres_failed: str | None = None
    service: bool | None = None


class ServiceUnavailableError(PreflightError):
    """A service was asked for, and no service manager is there to keep it."""

    code = "SERVICE_UNAVAILABLE"


def install(home: Home, wishes: Wishes) -> Outcome:
    """Install into *home*, or complete, adopt or re-configure what is there.

    Raises PreflightError, RefusedError, BusyError, MigrationError, SmokeTestError and OSError; what this
    run had changed is taken back first.
    """
    if os.path.exists(home.receipt) and needs_recovery(home) and not wishes.dry_run:  # noqa: PTH110 - Path's raises for a name too long
        with reporter() as report, holding(home, "install", owner_of(home.path)):
            recover(home, report)
    with naming_the_holder(home):
        receipt, context, findings = looked_at(home, wishes)
        if wishes.dry_run:
            return _planned(context, findings, wishes)
        check_install(findings)
    try:
        with interruptible():
            return _install(context, wishes, receipt)
    except MosaicError as error:
        if error.code != CpuUnsupportedError.code or not context.engine_chosen or read_receipt(home) is not None:
            raise
        LOG.warning("PostgreSQL was tried and does not run here: %s", error.message)
        return install(home, replace(wishes, postgres_failed=error.message))
    except OSError as error:
        if error.errno in FULL_DISK:
            raise DiskFullError(
                f"There is no room for {error.filename or 'a file'} in {home.path}",
                hint="Make room, or choose another --home.",
            ) from error
        raise


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
        account_name=context.account_name,
        make_account=context.make_account,
        accept_secret=wishes.accept_secret,
        upgrading=upgrading,
        host=read_host(),
    )
    return receipt, context, examine_install(subject)


def install_held(home: Home, wishes: Wishes, report: Reporter) -> Outcome:
    """Do as `install` does in a home that is there and whose lock the caller holds."""
    _, context, findings = looked_at(home, wishes)
    check_install(findings)
    return _run(context, wishes, _pending(context, wishes), report)


def make_home(directories: Sequence[Path]) -> None:
    """Make the home (the last one) and its parents; root's must let the service account pass."""
    for parent in directories[:-1]:
        make_directory(parent, 0o755 if os.geteuid() == 0 else 0o700)
    for home in directories[-1:]:
        make_directory(home)


def _install(context: Context, wishes: Wishes, receipt: Receipt | None) -> Outcome:
    home = context.home
    make_home(context.new_directories)
    try:
        with holding(home, "install", context.home_owner):
            try:
                if read_receipt(home) != receipt:  # another installer has been here since
                    _, context, findings = looked_at(home, wishes)
                    check_install(findings)
                pending = _pending(context, wishes)
                with reporter() as report:
                    return _run(context, wishes, pending, report)
            finally:
                if read_receipt(home) is None:
                    _leave_no_trace(context)
    finally:
        for directory in reversed(context.new_directories):
            with suppress(OSError):  # not empty: all went well, or somebody else uses it
                directory.rmdir()


def _run(context: Context, wishes: Wishes, pending: Sequence[Step], report: Reporter) -> Outcome:
    smoke: dict[str, Any] | None = None
    link: str | None = None

    def finish() -> None:
        nonlocal smoke, link
        if wishes.start:
            report.begin("Asking the gateway")
            fresh = any(step.id == "cluster" for step in pending)
            smoke = _smoke_test(context, needs_setup=True if fresh else None)
            report.done("The gateway answers as it must")
            if smoke["needsSetup"]:
                link = _link(context, pending)
        _complete(context, wishes)

    execute("install", pending, lambda: context.journal, report, finish)
    return _outcome(context, pending, smoke, link)


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
    account, make = choose_account(home, wishes.run_as, receipt)
    config = load_config(home, flags=flags, environ=process_environment())
    choice = _engine(config, wishes, receipt, account)
    return Context(
        home=home,
        config=replace(config, engine=choice.engine),
        engine_reason=choice.reason,
        engine_chosen=receipt is None and "engine" not in config.sources and config.postgres_bin is None,
        account_name=account,
        make_account=make,
        new_directories=tuple(reversed([path for path in (home.path, *home.path.parents) if not path.exists()])),
    )


def _engine(config: Config, wishes: Wishes, receipt: Receipt | None, account: str | None) -> Choice:
    """Return the engine that was named, or that the home has, or that is chosen for a new one."""
    if "engine" in config.sources:
        kept = receipt.engine_reason if receipt is not None and receipt.engine == config.engine else ""
        return Choice(config.engine, kept or f"named: {config.sources['engine']}")
    if receipt is not None:
        return Choice(EngineName(receipt.engine), receipt.engine_reason)
    looked = look_at_engines(config, account, postgres_failed=wishes.postgres_failed)
    return choose(*looked, postgres_bin=config.postgres_bin)


def _pending(context: Context, wishes: Wishes) -> list[Step]:
    manager = _manager(context, wishes, read_receipt(context.home))
    ids = install_steps(
        context.config.engine,
        account=context.account_name is not None,
        make_account=context.make_account,
        start=wishes.start,
        service=manager is not None,
    )
    steps = {step.id: step for step in _steps(context, manager)}
    done = {step for step in ids if steps[step].done()}
    return [steps[step] for step in pending_steps(ids, done)]


def _manager(context: Context, wishes: Wishes, receipt: Receipt | None) -> Manager | None:
    """Return the service manager that this home has or gets. Raises `ServiceUnavailableError`."""
    wanted = wishes.service
    if wanted is None:
        wanted = receipt is None or receipt.service_wanted
    if not wanted:
        return None
    recorded = service_of(receipt)
    if recorded is not None and receipt is not None and receipt.state is ReceiptState.INSTALLED:
        return recorded.manager
    found = available_manager(context.account_name)
    if found.manager is None and wishes.service:
        raise ServiceUnavailableError(
            f"no service can be registered: {found.reason}",
            hint="Leave --service out: the gateway then runs in the background, kept by its own supervisor.",
        )
    return found.manager


def _steps(context: Context, manager: Manager | None) -> tuple[Step, ...]:
    """Return every step there is; the plan says which of them an installation has."""
    name = context.account_name or ""
    launch = LaunchStep(context)
    runtime: Step = RuntimeStep(context)
    database: Step = ClusterStep(context)
    if context.config.engine is EngineName.PGLITE:
        runtime, database = PgliteRuntimeStep(context), PgliteDataStep(context)
    return (
        HomeStep(context),
        AccountStep(context, name),
        HandOverStep(context, name),
        ProgramStep(context),
        StopStep(context),
        ConfigStep(context),
        SecretStep(context),
        launch,
        runtime,
        MajorUpgradeStep(context),
        database,
        ServiceStep(context, manager),
        SchemaStep(context),
        StartStep(context, launch),
    )


def _complete(context: Context, wishes: Wishes) -> None:
    """The last word: the receipt says that all is there, and the journal goes."""
    receipt = read_receipt(context.home)
    if receipt is None:
        raise LookupError(context.home.receipt)
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
        write_receipt(context.home, complete, context.home_owner)
    forget_record(context.home, context.home_owner)
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

    with open_database(context.config, context.account) as conninfo:
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
    pending = _pending(context, wishes)
    lines = [f"Would install into {context.home.path} (engine {_told(context)}):"]
    lines += [f"  {number}. {step.description}" for number, step in enumerate(pending, 1)]
    if not pending:
        lines = [f"{context.home.path} is installed; nothing would change."]
    return Outcome(
        result={"dry_run": True, **_facts(context, pending), **checks}, lines=(*finding_lines(findings), *lines)
    )


def _outcome(context: Context, pending: Sequence[Step], smoke: dict[str, Any] | None, link: str | None) -> Outcome:
    receipt = read_receipt(context.home)
    instance = receipt.instance_id if receipt else ""
    lines = [f"mosaic-gateway {__version__} is installed in {context.home.path} (instance {instance})."]
    lines.append(f"The database is run by {_told(context)}.")
    if not pending:
        lines = [f"{context.home.path} was installed already; nothing was changed (instance {instance})."]
    if smoke is None:
        lines.append("Start it: mosaic-gateway start")
    else:
        lines.append(f"The gateway runs at {context.config.url} and passed its smoke test.")
    lines += _service_lines(context, pending)
    if link is not None:
        lines += ["", "Make the first admin on this page (the link works once, within 24 hours):", f"  {link}"]
    elif smoke is not None and smoke["needsSetup"]:
        lines.append("No admin yet. The link from before still works; for a new one: mosaic-gateway bootstrap link")
    result = {"dry_run": False, **_facts(context, pending), "instance_id": instance, "smoke_test": smoke}
    return Outcome(result={**result, "setup_url": link}, lines=tuple(lines))


def _told(context: Context) -> str:
    reason = context.engine_reason
    return f"{context.config.engine}: {reason}" if reason else str(context.config.engine)


def _service_lines(context: Context, pending: Sequence[Step]) -> list[str]:
    """Return what is to be said of the service; nothing where nothing was changed."""
    told = [line for step in pending if isinstance(step, ServiceStep) for line in step.told]
    service = registered_service(context.home)
    if service is None and pending:
        told.append("It is no service: after a restart of the machine, run mosaic-gateway start.")
    if service is not None and any(isinstance(step, ServiceStep) for step in pending):
        told.append(f"It starts with the machine ({service.described}).")
        if service.manager is Manager.SYSTEMD_USER and not lingers():
            told[-1] = f"It starts when you log in ({service.described}). To start with the machine: {LINGER}"
    return told


def _facts(context: Context, pending: Sequence[Step]) -> dict[str, Any]:
    return {
        "home": str(context.home.path),
        "engine": str(context.config.engine),
        "engine_reason": context.engine_reason,
        "url": context.config.url,
        "account": context.account_name,
        "service": service.described if (service := registered_service(context.home)) is not None else None,
        "changed": bool(pending),
        "steps": [{"id": step.id, "description": step.description} for step in pending],
    }
