"""upgrade --revert: back to the version before the last upgrade, with the data of before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.reporter import reporter
from mosaic_gateway.config import load_config, process_environment
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.gateway.control.program import ProgramMissingError, current_program
from mosaic_gateway.gateway.database_access import running_database
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.data_swap import commit
from mosaic_gateway_installer.backup.manifest import MANIFEST
from mosaic_gateway_installer.backup.restore_steps import StageBackupStep, SwapStep
from mosaic_gateway_installer.backup.stored_backups import Backup, backups_of, find_backup
from mosaic_gateway_installer.backup.verification import check_files
from mosaic_gateway_installer.home_lock import home_locked
from mosaic_gateway_installer.install.smoke_test import smoke_test
from mosaic_gateway_installer.install.steps.gateway import StopStep
from mosaic_gateway_installer.install.verb import account_of_home
from mosaic_gateway_installer.program_copy.store import is_whole
from mosaic_gateway_installer.receipt import installed
from mosaic_gateway_installer.recovery import recover
from mosaic_gateway_installer.step import Context, Step
from mosaic_gateway_installer.step_runner import execute, interruptible
from mosaic_gateway_installer.upgrade.last_upgrade import LastUpgrade, forget_last, read_last
from mosaic_gateway_installer.upgrade.later_writes import losses
from mosaic_gateway_installer.upgrade.major_version import forget_reverted, old_clusters
from mosaic_gateway_installer.upgrade.revert_steps import (
    CheckLossStep,
    RevertClusterStep,
    RevertProgramStep,
    RevertReceiptStep,
    ServeStep,
    check,
)

__all__ = ["RevertUnavailableError", "revert"]


class RevertUnavailableError(RefusedError):
    """There is no upgrade to go back from, or what it needs is gone."""

    code = "NO_WAY_BACK"


@dataclass(slots=True)
class _Revert:
    """A way back: by the old cluster that lies beside, or by the backup that the upgrade made."""

    context: Context
    last: LastUpgrade
    backup: Backup | None
    steps: tuple[Step, ...]
    smoke: dict[str, Any] | None = None


def revert(home: Home, *, accept_loss: bool, dry_run: bool) -> Outcome:
    """Go back to the version before the last upgrade of *home*, if nothing that was written since is lost by it.

    With *accept_loss* also if something is. Raises `RevertUnavailableError`, `LossError`, BusyError, and what a start
    raises; then the new version serves again.
    """
    installed(home)
    if dry_run:
        way = _way(home, accept_loss=accept_loss)
        running = running_database(home, way.context.config.engine)
        if running is not None and not accept_loss:
            check(losses(way.last.written, running))
        return _outcome(way, way.steps, None, dry_run=True)
    with interruptible(), reporter() as report, home_locked(home, "upgrade"):
        recover(home, report)
        way = _way(home, accept_loss=accept_loss)
        if way.backup is not None:
            report.begin("Hashing the backup's files")
            check_files(way.backup)
        steps = [step for step in way.steps if not step.done()]
        execute("upgrade", steps, way.context.journal, report, lambda: None)
        if way.backup is not None:
            commit(home)
        forget_reverted(home)
        forget_last(home)
        way.context.journal.close()
        found = next(step.found for step in steps if isinstance(step, CheckLossStep))
        return _outcome(way, steps, found, dry_run=False)


def _way(home: Home, *, accept_loss: bool) -> _Revert:
    """Plan the way back. Reads only."""
    receipt, last = installed(home), read_last(home)
    if last is None or last.target_version != receipt.version:
        raise RevertUnavailableError(
            f"{home.path} knows of no upgrade to go back from", hint="Restore a backup: mosaic-gateway backup list"
        )
    config = load_config(home, flags={}, environ=process_environment())
    if config.engine is EngineName.SERVER:
        raise RevertUnavailableError(
            "the database is on a server, which mosaic-gateway does not take back",
            hint="Restore the server's database by its own means, then install the earlier version.",
        )
    context = Context(
        home=home,
        config=config,
        account_name=account_of_home(home),
        new_directories=(),
    )
    before = _program(home, last)
    backup = None if old_clusters(home) else _backup(home, last)
    data: tuple[Step, ...] = (RevertClusterStep(context),)
    if backup is not None:
        data = StageBackupStep(context, backup, receipt), SwapStep(context)
    way = _Revert(context, last, backup, ())

    def ask() -> None:
        way.smoke = smoke_test(config.local_url, needs_setup=None)

    way.steps = (
        StopStep(context),
        CheckLossStep(context, last, accept_loss),
        *data,
        RevertProgramStep(context, before, _current(home)),
        RevertReceiptStep(context, receipt, last),
        ServeStep(context, ask),
    )
    return way


def _program(home: Home, last: LastUpgrade) -> str:
    name = last.source_program
    if name is None or not is_whole(home.runtime / name):
        raise RevertUnavailableError(
            f"the program of version {last.source_version} is not in {home.runtime} any more",
            hint=f"Install it: pip install mosaic-gateway=={last.source_version}, then restore the upgrade's backup.",
        )
    return name


def _current(home: Home) -> str | None:
    try:
        program = current_program(home)
    except ProgramMissingError:
        return None
    return program.directory.name if program is not None else None


def _backup(home: Home, last: LastUpgrade) -> Backup:
    if last.backup is None or not (backups_of(home) / last.backup / MANIFEST).exists():
        raise RevertUnavailableError(
            f"there is no backup of what was before the upgrade to {last.target_version}",
            hint="It was made without one, or the backup was pruned.",
        )
    return find_backup(home, last.backup)


def _outcome(way: _Revert, steps: Sequence[Step], lost: tuple[str, ...] | None, *, dry_run: bool) -> Outcome:
    home, last = way.context.home, way.last
    lines = [f"{home.path} is with version {last.source_version} again, with the data of before the upgrade."]
    if dry_run:
        lines = [f"Would take {home.path} back from {last.target_version} to {last.source_version}:"]
        lines += [f"  {number}. {step.description}" for number, step in enumerate(steps, 1)]
    elif lost:
        lines += ["Given up:", *(f"  {one}" for one in lost)]
    result = {
        "dry_run": dry_run,
        "home": str(home.path),
        "from": last.target_version,
        "to": last.source_version,
        "backup": last.backup if way.backup is not None else None,
        "lost": None if lost is None else list(lost),
        "smoke_test": way.smoke,
        "steps": [{"id": step.id, "description": step.description} for step in steps],
    }
    return Outcome(result=result, lines=tuple(lines))
