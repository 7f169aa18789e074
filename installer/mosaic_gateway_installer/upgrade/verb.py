"""upgrade: this package in the place of the one that a home runs; on any failure the old one serves again."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import Reporter, reporter
from mosaic_gateway.config import NotInstalledError, load_config, process_environment
from mosaic_gateway.engines.pglite.runtime import uses_extra
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.control.program import ProgramMissingError, current_program
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.upgrade_state import Phase, UpgradeMark, read_mark, remove_mark
from mosaic_gateway_installer.backup.creation import GatewayInForegroundError, data_of, remove_leftovers, seal_backup
from mosaic_gateway_installer.backup.disk_space import check_room, size_of
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.backup.tree_copy import can_share
from mosaic_gateway_installer.checks.finding import CheckResult
from mosaic_gateway_installer.checks.preflight.run import check_install
from mosaic_gateway_installer.home_lock import home_locked
from mosaic_gateway_installer.install.options import InstallOptions
from mosaic_gateway_installer.install.retry_hint import advise_again
from mosaic_gateway_installer.install.steps.major_upgrade import MajorUpgradeStep
from mosaic_gateway_installer.install.steps.pglite import PgliteRuntimeStep
from mosaic_gateway_installer.install.verb import inspected
from mosaic_gateway_installer.program_copy.programs import programs_of
from mosaic_gateway_installer.program_copy.store import launcher
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, installed
from mosaic_gateway_installer.recovery import recover
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.step import Context, Step
from mosaic_gateway_installer.step_journal import Journal
from mosaic_gateway_installer.step_runner import execute, interruptible, uninterruptible
from mosaic_gateway_installer.upgrade.context import Upgrade
from mosaic_gateway_installer.upgrade.facts import upgrade_facts
from mosaic_gateway_installer.upgrade.fetch import PackageSource, run_fetched
from mosaic_gateway_installer.upgrade.plan import UpgradeFacts, downgrade, is_needed, refusal, upgrade_steps
from mosaic_gateway_installer.upgrade.rollback import roll_back
from mosaic_gateway_installer.upgrade.steps.begin import (
    CopyAheadStep,
    LaunchNewStep,
    MarkStep,
    StageProgramStep,
    StopOldStep,
)
from mosaic_gateway_installer.upgrade.steps.data import BackupStep, MigrateStep, NewMajorStep, ProgramsStep
from mosaic_gateway_installer.upgrade.steps.end import (
    PruneStep,
    ResumeServiceStep,
    SealStep,
    SmokeStep,
    StartNewStep,
    StopAgainStep,
    SwitchStep,
)

__all__ = ["abort", "fetch_and_upgrade", "upgrade"]

LOG = logging.getLogger(__name__)
#: Steps after which the new version is in force, whatever becomes of them.
FINAL = frozenset({"service", "stop-again", "seal", "prune"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inspection:
    """What an upgrade of this home would be."""

    context: Context
    receipt: Receipt
    facts: UpgradeFacts
    findings: tuple[CheckResult, ...]


def fetch_and_upgrade(home: Home, source: PackageSource, words: Sequence[str]) -> int:
    """Let the package that *source* names upgrade *home*, with the options *words*; return its exit code.

    Root does this itself, before it has a process of the home's owner run anything: what is fetched becomes root's.
    """
    reads = os.geteuid() != 0 or home.programs is not None  # root reads nothing in a home
    extras = ("pglite",) if reads and uses_extra(home) else ()
    return run_fetched(replace(source, extras=extras), ["upgrade", "--home", str(home.path), *words])


def upgrade(home: Home, *, backup: bool, dry_run: bool) -> Outcome:
    """Let *home* run this package, or complete an upgrade to it that was killed.

    Without *backup* there is no way back for the data. Raises `NotInstalledError`, RefusedError before any write,
    PreflightError, BusyError, MigrationError, SmokeTestError and OSError; then the old version serves again.
    """
    installed(home)
    if dry_run:
        return _planned(home, backup=backup)
    with interruptible(), reporter() as report, home_locked(home, "upgrade"):
        rolled_back = _settle(home, report)
        recover(home, report, upgrade_too=False)
        _upgrade_engine(home)
        look = _inspect(home)
        check_install(look.findings)
        if not is_needed(look.facts) and read_mark(home) is None:
            return _nothing_to_do(home, look, rolled_back)
        _check(look, backup=backup)
        return _upgrade(look, report, backup=backup)


def abort(home: Home) -> Outcome:
    """Take back an upgrade of *home* that did not come to its end; does nothing where there is none."""
    installed(home)
    with interruptible(), reporter() as report, home_locked(home, "upgrade"):
        mark = read_mark(home)
        if mark is None:
            Journal(home.journal).close()
            remove_leftovers(home)
            return Outcome(result={"home": str(home.path), "taken_back": None}, lines=("No upgrade is under way.",))
        if mark.phase is Phase.DONE:
            _finish(home, mark)
            line = f"The upgrade to {mark.target_version} was complete already."
            return Outcome(result={"home": str(home.path), "taken_back": None}, lines=(line,))
        report.begin(f"Going back to version {mark.source_version}")
        roll_back(home, mark)
        line = f"{home.path} is with version {mark.source_version} again, with the data of before."
        return Outcome(result={"home": str(home.path), "taken_back": mark.target_version}, lines=(line,))


def _settle(home: Home, report: Reporter) -> str | None:
    """Put an upgrade that was killed where this one can begin or go on; return the version that was taken back."""
    mark = read_mark(home)
    if mark is None:
        return None
    if mark.phase is Phase.DONE:
        _finish(home, mark)
        return None
    if mark.phase is Phase.CHANGING and programs_of(home).find_gateway() == mark.target_program:
        return None
    report.begin(f"Taking back the unfinished upgrade to {mark.target_version}")
    roll_back(home, mark)
    return mark.target_version


def _finish(home: Home, mark: UpgradeMark) -> None:
    """Complete an upgrade of which only the last word is missing: all that it changed is in force."""
    if mark.backup is not None:
        with suppress(OSError, MosaicError):  # it is compared and whole; without hashes it can be restored as well
            seal_backup(backups_of(home) / mark.backup)
    remove_mark(home)
    Journal(home.journal).close()
    if mark.ran:
        gateway_process.start(home)
    else:
        gateway_process.stop(home)


def _upgrade_engine(home: Home) -> None:
    """Put the engine's programs where root keeps them now, if version 0.1.0 put them into the home."""
    if home.programs is None or program_names(home) or not (home.path / "runtime").is_dir():
        return
    config = load_config(home, flags={}, environ=process_environment())
    if config.engine is EngineName.POSTGRES and config.postgres_bin is None:
        programs_of(home).place_postgres()
    elif config.engine is EngineName.PGLITE:
        programs_of(home).place_pglite(config.pglite_dir)


def _inspect(home: Home) -> _Inspection:
    receipt, context, findings = inspected(home, InstallOptions(), upgrading=True)
    if receipt is None:
        check_install(findings)  # which have found why it cannot be used now
        receipt = installed(home)
    _check_state(receipt, home)
    older = downgrade(receipt.version, __version__, receipt.schema, schema_digest(load_bundles()))
    if older is not None:
        raise older
    return _Inspection(
        context=context, receipt=receipt, facts=upgrade_facts(context.config, receipt), findings=findings
    )


def _check(look: _Inspection, *, backup: bool) -> None:
    """Raise what forbids the upgrade; nothing has been written."""
    refused = refusal(look.facts, backup=backup)
    if refused is not None:
        raise refused
    home, engine = look.context.home, look.context.config.engine
    state = gateway_process.state_of(home, ask=False)
    if state.running and state.supervisor is None and not state.under_service:
        raise GatewayInForegroundError(
            f"a gateway runs in the foreground (process {state.pid}), which we could not start again",
            hint="End it, then run the command again.",
        )
    data = data_of(home, engine)
    if backup and data is not None and not can_share(data, home.path):
        check_room(backups_of(home), size_of([data]), "The backup before the upgrade")


def _upgrade(look: _Inspection, report: Reporter, *, backup: bool) -> Outcome:
    run, steps = _steps(look, report, backup=backup)
    pending = [step for step in steps if not step.done()]
    reversible = [step for step in pending if step.id not in FINAL]
    with _rolled_back(look, run):
        execute("upgrade", reversible, look.context.journal, report, lambda: None)
    if run.launched is not None:
        run.launched.close()
    notes = []
    for step in (step for step in pending if step.id in FINAL):
        report.begin(step.description)
        try:
            step.apply()
        except (OSError, MosaicError) as error:  # the new version serves: this is no reason to take it back
            LOG.warning("%s: %s", step.id, error)
            notes.append(f"{step.description}: {error}")
    look.context.journal.close()
    return _outcome(look, run, pending, notes)


def _steps(look: _Inspection, report: Reporter, *, backup: bool) -> tuple[Upgrade, list[Step]]:
    context, home = look.context, look.context.home
    if not programs_of(home).can_place():
        raise ProgramMissingError(
            "this program is the home's own copy, which can bring no other version",
            hint="Run the upgrade of the package that was installed, or give --version or --wheel.",
        )
    mark = read_mark(home)
    source = mark.source_program if mark is not None else _current_name(home)
    run = Upgrade(context=context, receipt=look.receipt, report=report, source_program=source)
    state = gateway_process.state_of(home, ask=False)
    ran = mark.ran if mark is not None else state.running or state.supervisor is not None
    data = data_of(home, context.config.engine)
    ids = upgrade_steps(
        look.facts,
        backup=backup,
        ran=ran,
        embedded=context.config.engine is not EngineName.SERVER,
        service=registered_service(home) is not None,
        ahead=(
            context.config.engine is EngineName.POSTGRES
            and state.running
            and data is not None
            and not can_share(data, home.path)
        ),
    )
    every: dict[str, Step] = {
        step.id: step
        for step in (
            StageProgramStep(run), CopyAheadStep(run), MarkStep(run), StopOldStep(run), LaunchNewStep(run),
            BackupStep(run),
            PgliteRuntimeStep(context) if context.config.engine is EngineName.PGLITE else ProgramsStep(run),
            NewMajorStep(run, MajorUpgradeStep(context)), MigrateStep(run),
            StartNewStep(run), SmokeStep(run), SwitchStep(run), ResumeServiceStep(run), StopAgainStep(run),
            SealStep(run), PruneStep(run),
        )
    }  # fmt: skip
    return run, [every[step] for step in ids]


def _current_name(home: Home) -> str | None:
    try:
        program = current_program(home)
    except ProgramMissingError:
        return None
    return program.directory.name if program is not None else None


@contextmanager
def _rolled_back(look: _Inspection, run: Upgrade) -> Iterator[None]:
    """See to it that the old version serves again after a failure of the block, and have the error say so."""
    try:
        yield
    except BaseException as error:
        with uninterruptible():
            _restore_service(look.context.home)
        if isinstance(error, MosaicError):
            said, whole = _after_failure(look, run)
            error.message = f"{error.message}\n{said}"
            if whole:
                advise_again(error, "upgrade")
        raise


def _restore_service(home: Home) -> None:
    """Take back what the undoing of this run's own steps did not cover: what a killed run had done before."""
    try:
        mark = read_mark(home)
        if mark is not None:
            roll_back(home, mark)
    except (OSError, MosaicError) as error:
        LOG.warning("could not go back to what was before: %s", error)  # the mark stays: the next run goes on


def _after_failure(look: _Inspection, run: Upgrade) -> tuple[str, bool]:
    """Return what there is now, in words, and whether it is all as before."""
    home, receipt = look.context.home, look.receipt
    state = gateway_process.state_of(home, ask=False)
    unfinished = read_mark(home) is not None
    on_server = look.context.config.engine is EngineName.SERVER and run.changed_data
    if unfinished:
        how = "It could not be taken back yet; mosaic-gateway upgrade goes on, --abort goes back"
    elif on_server:
        how = f"Version {receipt.version} {'serves' if state.running else 'is in place, not running'}; the database on"
        how += " your server is as the failure left it"
        how += f", and its dump of before is {backups_of(home) / run.backup}" if run.backup is not None else ""
    elif state.running:
        how = f"The upgrade was taken back: version {receipt.version} serves again, with the data of before"
    else:
        how = f"The upgrade was taken back: version {receipt.version} is in place with the data of before, not running"
    return f"{how}. The log: {home.gateway_log}", not (unfinished or on_server)


def _planned(home: Home, *, backup: bool) -> Outcome:
    look = _inspect(home)
    mark = read_mark(home)
    refused = refusal(look.facts, backup=backup)
    needed = is_needed(look.facts) or mark is not None
    pending: list[Step] = []
    if needed and refused is None:
        with reporter() as report:
            pending = [step for step in _steps(look, report, backup=backup)[1] if not step.done()]
    lines = [f"Would upgrade {home.path} from {look.receipt.version} to {__version__}:"]
    lines += [f"  {number}. {step.description}" for number, step in enumerate(pending, 1)]
    if not needed:
        lines = [f"{home.path} is with version {__version__}; nothing would change."]
    result = {"dry_run": True, **_facts(look, pending), "checks": [finding.to_dict() for finding in look.findings]}
    return Outcome(result=result, lines=tuple(lines), error=refused)


def _nothing_to_do(home: Home, look: _Inspection, rolled_back: str | None) -> Outcome:
    lines = [f"{home.path} is with version {__version__} already; nothing was changed."]
    if rolled_back is not None:
        lines = [f"The unfinished upgrade to {rolled_back} was taken back; {home.path} is with version {__version__}."]
    return Outcome(result={"dry_run": False, **_facts(look, []), "taken_back": rolled_back}, lines=tuple(lines))


def _outcome(look: _Inspection, run: Upgrade, pending: Sequence[Step], notes: Sequence[str]) -> Outcome:
    home, before = look.context.home, look.receipt.version
    lines = [f"{home.path} is with version {__version__} now (before: {before})."]
    if any(step.id == "stop-again" for step in pending):
        lines.append("Start it: mosaic-gateway start")
    else:
        lines.append(f"The gateway runs at {look.context.config.url} and passed its smoke test.")
    if run.backup is not None:
        lines.append(f"The backup of what was before: {backups_of(home) / run.backup}")
    result = {
        "dry_run": False,
        **_facts(look, pending),
        "instance_id": look.receipt.instance_id,
        "smoke_test": run.smoke,
        "backup": run.backup,
        "downtime_seconds": round(run.downtime, 3) if run.downtime is not None else None,
        "command": str(launcher(home)),
        "notes": list(notes),
    }
    return Outcome(result=result, lines=(*lines, *notes))


def _facts(look: _Inspection, pending: Sequence[Step]) -> dict[str, Any]:
    return {
        "home": str(look.context.home.path),
        "engine": str(look.context.config.engine),
        "from": look.receipt.version,
        "to": __version__,
        "url": look.context.config.url,
        "changed": bool(pending),
        "steps": [{"id": step.id, "description": step.description} for step in pending],
    }


def _check_state(receipt: Receipt, home: Home) -> None:
    if receipt.state is not ReceiptState.INSTALLED:
        raise NotInstalledError(
            f"{home.path} holds no complete installation", hint="Run mosaic-gateway install, which completes it."
        )
