"""``upgrade --revert``: return to the version before the last upgrade, with the data from before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mosaic_gateway.cli import Outcome
from mosaic_gateway.config import load_config
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.gateway import running_database
from mosaic_gateway.gateway.control import ProgramMissingError, current_program
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName, Home, installed
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.backup import stored_backups
from mosaic_gateway_installer.backup.data_swap import commit
from mosaic_gateway_installer.backup.manifest import MANIFEST
from mosaic_gateway_installer.backup.restore_steps import StageBackupStep, SwapStep
from mosaic_gateway_installer.backup.verification import check_files
from mosaic_gateway_installer.install.steps.gateway import StopStep
from mosaic_gateway_installer.program_copy.store import is_whole
from mosaic_gateway_installer.session import session
from mosaic_gateway_installer.step import Step, Target
from mosaic_gateway_installer.step_runner import execute
from mosaic_gateway_installer.upgrade import last_upgrade, revert_steps
from mosaic_gateway_installer.upgrade.later_writes import writes_since
from mosaic_gateway_installer.upgrade.major_version import old_clusters, remove_reverted

__all__ = ["RevertUnavailableError", "revert"]


class RevertUnavailableError(RefusedError):
    """There is no upgrade to revert, or the program or data that a revert needs is gone."""

    code = "REVERT_UNAVAILABLE"


@dataclass(frozen=True, slots=True, kw_only=True)
class _RevertPlan:
    """A planned revert: to the retained old cluster, or, if *backup* is not None, from the upgrade's backup."""

    target: Target
    last: last_upgrade.LastUpgrade
    backup: stored_backups.Backup | None
    loss: revert_steps.CheckLossStep
    serve: revert_steps.ServeStep
    steps: tuple[Step, ...]


def revert(home: Home, *, accept_loss: bool, dry_run: bool) -> Outcome:
    """Return *home* to the version before its last upgrade.

    Without *accept_loss*, refuses if something written since would be lost. Raises `RevertUnavailableError`,
    `LossError`, BusyError, and what starting the gateway raises; the new version then serves again.
    """
    installed(home)
    if dry_run:
        plan = _plan(home, accept_loss=accept_loss)
        running = running_database(home, plan.target.config.engine)
        if running is not None and not accept_loss:
            revert_steps.check(writes_since(plan.last.written, running))
        return _outcome(plan, plan.steps, None, dry_run=True)
    with session(home, "upgrade") as report:
        plan = _plan(home, accept_loss=accept_loss)
        if plan.backup is not None:
            report.begin("Verifying the backup's checksums")
            check_files(plan.backup)
        steps = [step for step in plan.steps if not step.done()]
        execute("upgrade", steps, plan.target.journal, report, lambda: None)
        if plan.backup is not None:
            commit(home)
        remove_reverted(home)
        last_upgrade.remove_last(home)
        plan.target.journal.close()
        return _outcome(plan, steps, plan.loss.lost, dry_run=False)


def _plan(home: Home, *, accept_loss: bool) -> _RevertPlan:
    """Plan the revert. Reads only."""
    receipt, last = installed(home), last_upgrade.read_last(home)
    if last is None or last.target_version != receipt.version:
        raise RevertUnavailableError(
            f"{home.path} has no upgrade to revert",
            hint="To restore a backup instead, list the backups: " + command("backup list"),
        )
    config = load_config(home, flags={}, environ=process_environment())
    if config.engine is EngineName.SERVER:
        raise RevertUnavailableError(
            "the database is on a server, and mosaic-gateway does not revert databases on servers",
            hint="Restore the database with the server's own tools, then install the earlier version.",
        )
    target = Target(config=config, receipt=receipt)
    source_program = _source_program(home, last)
    backup = None if old_clusters(home) else _backup(home, last)
    data: tuple[Step, ...] = (revert_steps.RevertClusterStep(target),)
    if backup is not None:
        data = StageBackupStep(target, backup, receipt), SwapStep(target)
    loss, serve = revert_steps.CheckLossStep(target, last, accept_loss), revert_steps.ServeStep(target)
    return _RevertPlan(
        target=target,
        last=last,
        backup=backup,
        loss=loss,
        serve=serve,
        steps=(
            StopStep(target),
            loss,
            *data,
            revert_steps.RevertProgramStep(target, source_program, _current_program(home)),
            revert_steps.RevertReceiptStep(target, receipt, last),
            serve,
        ),
    )


def _source_program(home: Home, last: last_upgrade.LastUpgrade) -> str:
    name = last.source_program
    if name is None or not is_whole(home.runtime / name):
        raise RevertUnavailableError(
            f"the program of version {last.source_version} is no longer in {home.runtime}",
            hint=f"Run pip install mosaic-gateway=={last.source_version}, then restore the upgrade's backup.",
        )
    return name


def _current_program(home: Home) -> str | None:
    try:
        program = current_program(home)
    except ProgramMissingError:
        return None
    return program.directory.name if program is not None else None


def _backup(home: Home, last: last_upgrade.LastUpgrade) -> stored_backups.Backup:
    if last.backup is None or not (stored_backups.backups_of(home) / last.backup / MANIFEST).exists():
        raise RevertUnavailableError(
            f"there is no backup from before the upgrade to {last.target_version}",
            hint="The upgrade ran with --no-backup, or the backup was pruned.",
        )
    return stored_backups.find_backup(home, last.backup)


def _outcome(plan: _RevertPlan, steps: Sequence[Step], lost: tuple[str, ...] | None, *, dry_run: bool) -> Outcome:
    home, last = plan.target.home, plan.last
    lines = [f"Reverted {home.path} to version {last.source_version}, with the data from before the upgrade."]
    if dry_run:
        lines = [f"Would revert {home.path} from version {last.target_version} to {last.source_version}:"]
        lines += [f"  {number}. {step.description}" for number, step in enumerate(steps, 1)]
    elif lost:
        lines += ["Lost writes:", *(f"  {phrase}" for phrase in lost)]
    result = {
        "dry_run": dry_run,
        "home": str(home.path),
        "from": last.target_version,
        "to": last.source_version,
        "backup": last.backup if plan.backup is not None else None,
        "lost": None if lost is None else list(lost),
        "smoke_test": plan.serve.smoke,
        "steps": [{"id": step.id, "description": step.description} for step in steps],
    }
    return Outcome(result=result, lines=tuple(lines))
