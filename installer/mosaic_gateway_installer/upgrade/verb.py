"""The verb ``upgrade``: replaces the program of a home by this package, and rolls back on any failure."""

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
from mosaic_gateway.config import load_config
from mosaic_gateway.engines.pglite.runtime import uses_extra
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.control.program import ProgramMissingError, current_program
from mosaic_gateway.gateway.control.service import registered_service
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import NotInstalledError, Receipt, ReceiptState, installed
from mosaic_gateway.installation.upgrade_state import CONTINUE, Phase, UpgradeMark, read_mark, remove_mark
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway_installer.backup.creation import (
    GatewayInForegroundError,
    add_missing_hashes,
    data_of,
    remove_leftovers,
)
from mosaic_gateway_installer.backup.disk_space import check_free_space, size_of
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.backup.tree_copy import can_share
from mosaic_gateway_installer.checks.finding import CheckResult
from mosaic_gateway_installer.checks.preflight.run import check_install
from mosaic_gateway_installer.install.options import InstallOptions
from mosaic_gateway_installer.install.retry_hint import advise_retry
from mosaic_gateway_installer.install.steps.major_upgrade import MajorUpgradeStep
from mosaic_gateway_installer.install.steps.pglite import PgliteRuntimeStep
from mosaic_gateway_installer.install.verb import inspected
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.program_copy.store import launcher
from mosaic_gateway_installer.root.program_directory import program_names
from mosaic_gateway_installer.session import Recovery, session
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.step_journal import Journal
from mosaic_gateway_installer.step_runner import execute, uninterruptible
from mosaic_gateway_installer.upgrade.facts import upgrade_facts
from mosaic_gateway_installer.upgrade.fetch import PackageSource, run_fetched
from mosaic_gateway_installer.upgrade.plan import UpgradeFacts, downgrade, is_needed, refusal, upgrade_steps
from mosaic_gateway_installer.upgrade.rollback import roll_back
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade
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
#: Steps that run after the switch; their failure does not roll the upgrade back.
FINAL = frozenset({StepId.SERVICE, StepId.STOP_AGAIN, StepId.SEAL, StepId.PRUNE})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inspection:
    """The state of a home before an upgrade, and the results of the preflight checks."""

    target: Target
    receipt: Receipt
    facts: UpgradeFacts
    findings: tuple[CheckResult, ...]


def fetch_and_upgrade(home: Home, source: PackageSource, words: Sequence[str]) -> int:
    """Download the package that *source* names, and run its upgrade of *home* with the options *words*.

    Returns the exit code. Root downloads the package itself, before it starts a process of the service account: the
    downloaded files must belong to root.
    """
    may_read = os.geteuid() != 0 or home.programs is not None  # root reads no files in a user's home
    extras = ("pglite",) if may_read and uses_extra(home) else ()
    return run_fetched(replace(source, extras=extras), ["upgrade", "--home", str(home.path), *words])


def upgrade(home: Home, *, backup: bool, dry_run: bool) -> Outcome:
    """Upgrade *home* to this package, or complete such an upgrade that was killed.

    Without *backup* the data cannot be rolled back. Raises `NotInstalledError`, RefusedError before any write,
    PreflightError, BusyError, MigrationError, SmokeTestError and OSError; the old version then serves again.
    """
    installed(home)
    if dry_run:
        return _dry_run_outcome(home, backup=backup)
    with session(home, "upgrade", recovery=Recovery.ALL_BUT_UPGRADE) as report:
        rolled_back = _resolve_unfinished_upgrade(home, report)
        _upgrade_engine(home)
        inspection = _inspect(home)
        check_install(inspection.findings)
        if not is_needed(inspection.facts) and read_mark(home) is None:
            return _unchanged_outcome(home, inspection, rolled_back)
        _check(inspection, backup=backup)
        return _upgrade(inspection, report, backup=backup)


def abort(home: Home) -> Outcome:
    """Roll back an unfinished upgrade of *home*; do nothing if there is none."""
    installed(home)
    with session(home, "upgrade", recovery=Recovery.NOTHING) as report:
        mark = read_mark(home)
        if mark is None:
            Journal(home.journal).close()
            remove_leftovers(home)
            return Outcome(
                result={"home": str(home.path), "rolled_back": None}, lines=("There is no unfinished upgrade.",)
            )
        if mark.phase is Phase.DONE:
            _finish(home, mark)
            line = f"The upgrade to {mark.target_version} was already complete."
            return Outcome(result={"home": str(home.path), "rolled_back": None}, lines=(line,))
        report.begin(f"Rolling back to version {mark.source_version}")
        roll_back(home, mark)
        line = f"Rolled back {home.path} to version {mark.source_version}, with the data from before the upgrade."
        return Outcome(result={"home": str(home.path), "rolled_back": mark.target_version}, lines=(line,))


def _resolve_unfinished_upgrade(home: Home, report: Reporter) -> str | None:
    """Complete, retain or roll back an upgrade that was killed; return the target version if it was rolled back.

    An upgrade to this very program that has changed data is retained: the steps continue it.
    """
    mark = read_mark(home)
    if mark is None:
        return None
    if mark.phase is Phase.DONE:
        _finish(home, mark)
        return None
    if mark.phase is Phase.CHANGING and programs_of(home).find_gateway() == mark.target_program:
        return None
    report.begin(f"Rolling back the unfinished upgrade to {mark.target_version}")
    roll_back(home, mark)
    return mark.target_version


def _finish(home: Home, mark: UpgradeMark) -> None:
    """Complete an upgrade that was killed after the switch: add the backup's hashes, remove mark and journal."""
    if mark.backup is not None:
        with suppress(OSError, MosaicError):  # the backup was compared; it can be restored without hashes too
            add_missing_hashes(backups_of(home) / mark.backup)
    remove_mark(home)
    Journal(home.journal).close()
    if mark.ran:
        gateway_process.start(home)
    else:
        gateway_process.stop(home)


def _upgrade_engine(home: Home) -> None:
    """Copy the engine's programs into root's programs directory, if version 0.1.0 installed them in the home."""
    if home.programs is None or program_names(home) or not (home.path / "runtime").is_dir():
        return
    config = load_config(home, flags={}, environ=process_environment())
    if config.engine is EngineName.POSTGRES and config.postgres_bin is None:
        programs_of(home).place_postgres()
    elif config.engine is EngineName.PGLITE:
        programs_of(home).place_pglite(config.pglite_dir)


def _inspect(home: Home) -> _Inspection:
    receipt, target, findings = inspected(home, InstallOptions(), upgrading=True)
    if receipt is None:
        check_install(findings)  # raises if a check has found why there is no usable receipt
        receipt = installed(home)
    _check_state(receipt, home)
    older = downgrade(receipt.version, __version__, receipt.schema, schema_digest(load_bundles()))
    if older is not None:
        raise older
    return _Inspection(target=target, receipt=receipt, facts=upgrade_facts(target.config, receipt), findings=findings)


def _check(inspection: _Inspection, *, backup: bool) -> None:
    """Raise the error that forbids the upgrade, if there is one. Reads only."""
    refused = refusal(inspection.facts, backup=backup)
    if refused is not None:
        raise refused
    home, engine = inspection.target.home, inspection.target.config.engine
    state = gateway_process.state_of(home, ask=False)
    if state.running and state.supervisor is None and not state.under_service:
        raise GatewayInForegroundError(
            f"a gateway runs in the foreground (process {state.pid}) and could not be restarted after the upgrade",
            hint="Stop it, then run the command again.",
        )
    data = data_of(home, engine)
    if backup and data is not None and not can_share(data, home.path):
        check_free_space(backups_of(home), size_of([data]), "The backup before the upgrade")


def _upgrade(inspection: _Inspection, report: Reporter, *, backup: bool) -> Outcome:
    run, steps = _steps(inspection, report, backup=backup)
    pending = [step for step in steps if not step.done()]
    reversible = [step for step in pending if step.id not in FINAL]
    with _rolled_back(inspection, run):
        execute("upgrade", reversible, inspection.target.journal, report, lambda: None)
    if run.launched is not None:
        run.launched.close()
    warnings = []
    for step in (step for step in pending if step.id in FINAL):
        report.begin(step.description)
        try:
            step.apply()
        except (OSError, MosaicError) as error:  # the new version serves: no reason to roll back
            LOG.warning("%s: %s", step.id, error)
            warnings.append(f"{step.description}: {error}")
    inspection.target.journal.close()
    return _outcome(inspection, run, pending, warnings)


def _steps(inspection: _Inspection, report: Reporter, *, backup: bool) -> tuple[Upgrade, list[Step]]:
    target, home = inspection.target, inspection.target.home
    if not programs_of(home).can_place():
        raise ProgramMissingError(
            "this command runs from the home's own program copy, which cannot be installed into it again",
            hint="Run " + command("upgrade") + " from the environment of the new version, or use --version or --wheel.",
        )
    mark = read_mark(home)
    source = mark.source_program if mark is not None else _current_program(home)
    run = Upgrade(
        target=target,
        receipt=inspection.receipt,
        report=report,
        source_program=source,
        new_program=programs_of(home).find_gateway() or "",
    )
    state = gateway_process.state_of(home, ask=False)
    ran = mark.ran if mark is not None else state.running or state.supervisor is not None
    data = data_of(home, target.config.engine)
    ids = upgrade_steps(
        inspection.facts,
        backup=backup,
        ran=ran,
        embedded=target.config.engine is not EngineName.SERVER,
        service=registered_service(home) is not None,
        ahead=(
            target.config.engine is EngineName.POSTGRES
            and state.running
            and data is not None
            and not can_share(data, home.path)
        ),
    )
    available: dict[StepId, Step] = {
        step.id: step
        for step in (
            StageProgramStep(run), CopyAheadStep(run), MarkStep(run), StopOldStep(run), LaunchNewStep(run),
            BackupStep(run),
            PgliteRuntimeStep(target) if target.config.engine is EngineName.PGLITE else ProgramsStep(run),
            NewMajorStep(run, MajorUpgradeStep(target)), MigrateStep(run),
            StartNewStep(run), SmokeStep(run), SwitchStep(run), ResumeServiceStep(run), StopAgainStep(run),
            SealStep(run), PruneStep(run),
        )
    }  # fmt: skip
    return run, [available[step] for step in ids]


def _current_program(home: Home) -> str | None:
    try:
        program = current_program(home)
    except ProgramMissingError:
        return None
    return program.directory.name if program is not None else None


@contextmanager
def _rolled_back(inspection: _Inspection, run: Upgrade) -> Iterator[None]:
    """After a failure of the block, restore the old version, and add the resulting state to the error message."""
    try:
        yield
    except BaseException as error:
        with uninterruptible():
            _roll_back_remains(inspection.target.home)
        if isinstance(error, MosaicError):
            state, restored = _state_after_failure(inspection, run)
            error.add_note(state)
            if restored:
                advise_retry(error, command("upgrade"))
            elif read_mark(inspection.target.home) is not None:
                error.hint = CONTINUE
        raise


def _roll_back_remains(home: Home) -> None:
    """Roll back what an earlier, killed run had done, which undoing the steps of this run does not cover."""
    try:
        mark = read_mark(home)
        if mark is not None:
            roll_back(home, mark)
    except (OSError, MosaicError) as error:
        LOG.warning("the upgrade could not be rolled back: %s", error)  # the mark stays: the next run continues


def _state_after_failure(inspection: _Inspection, run: Upgrade) -> tuple[str, bool]:
    """Return a description of the present state, and whether everything is as before the upgrade."""
    home, receipt = inspection.target.home, inspection.receipt
    state = gateway_process.state_of(home, ask=False)
    unfinished = read_mark(home) is not None
    on_server = inspection.target.config.engine is EngineName.SERVER and run.changed_data
    if unfinished:
        summary = "The upgrade is not rolled back yet"
    elif on_server:
        summary = f"Version {receipt.version} {'serves again' if state.running else 'is installed, not running'}"
        summary += "; the database on the server is not rolled back"
        if run.backup is not None:
            summary += f". The dump from before the upgrade is {backups_of(home) / run.backup}"
    elif state.running:
        summary = f"The upgrade was rolled back: version {receipt.version} serves again, with the previous data"
    else:
        summary = f"The upgrade was rolled back: version {receipt.version} is installed, not running, with the previous"
        summary += " data"
    return f"{summary}. The log is {home.gateway_log}", not (unfinished or on_server)


def _dry_run_outcome(home: Home, *, backup: bool) -> Outcome:
    inspection = _inspect(home)
    mark = read_mark(home)
    refused = refusal(inspection.facts, backup=backup)
    needed = is_needed(inspection.facts) or mark is not None
    pending: list[Step] = []
    if needed and refused is None:
        with reporter() as report:
            pending = [step for step in _steps(inspection, report, backup=backup)[1] if not step.done()]
    lines = [f"Would upgrade {home.path} from version {inspection.receipt.version} to {__version__}:"]
    lines += [f"  {number}. {step.description}" for number, step in enumerate(pending, 1)]
    if not needed:
        lines = [f"{home.path} has version {__version__} already; nothing would change."]
    result = {
        "dry_run": True,
        **_facts(inspection, pending),
        "checks": [finding.to_dict() for finding in inspection.findings],
    }
    return Outcome(result=result, lines=tuple(lines), error=refused)


def _unchanged_outcome(home: Home, inspection: _Inspection, rolled_back: str | None) -> Outcome:
    lines = [f"{home.path} has version {__version__} already; nothing was changed."]
    if rolled_back is not None:
        lines = [f"The unfinished upgrade to {rolled_back} was rolled back; {home.path} has version {__version__}."]
    return Outcome(result={"dry_run": False, **_facts(inspection, []), "rolled_back": rolled_back}, lines=tuple(lines))


def _outcome(inspection: _Inspection, run: Upgrade, pending: Sequence[Step], warnings: Sequence[str]) -> Outcome:
    home, before = inspection.target.home, inspection.receipt.version
    lines: list[Text] = [f"Upgraded {home.path} from version {before} to {__version__}."]
    if any(step.id is StepId.STOP_AGAIN for step in pending):
        lines.append("Start it: " + command("start"))
    else:
        lines.append(f"The gateway runs at {inspection.target.config.url} and passed its smoke test.")
    if run.backup is not None:
        lines.append(f"The backup from before the upgrade is {backups_of(home) / run.backup}")
    result = {
        "dry_run": False,
        **_facts(inspection, pending),
        "instance_id": inspection.receipt.instance_id,
        "smoke_test": run.smoke,
        "backup": run.backup,
        "downtime_seconds": round(run.downtime, 3) if run.downtime is not None else None,
        "command": str(launcher(home)),
        "notes": list(warnings),
    }
    return Outcome(result=result, lines=(*lines, *warnings))


def _facts(inspection: _Inspection, pending: Sequence[Step]) -> dict[str, Any]:
    return {
        "home": str(inspection.target.home.path),
        "engine": str(inspection.target.config.engine),
        "from": inspection.receipt.version,
        "to": __version__,
        "url": inspection.target.config.url,
        "changed": bool(pending),
        "steps": [{"id": step.id, "description": step.description} for step in pending],
    }


def _check_state(receipt: Receipt, home: Home) -> None:
    if receipt.state is not ReceiptState.INSTALLED:
        raise NotInstalledError(
            f"the installation in {home.path} is incomplete", hint="Run " + command("install") + " to complete it."
        )
