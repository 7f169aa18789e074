"""The verb ``backup restore``: replaces the present data by a backup, or restores it into an empty home."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.cli import Outcome, Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.engines import postgres
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.installation import Home, Receipt, ReceiptState
from mosaic_gateway_installer.backup import restore_report, restore_steps, stored_backups
from mosaic_gateway_installer.backup.data_swap import commit
from mosaic_gateway_installer.backup.loss import confirm, read_loss
from mosaic_gateway_installer.backup.manifest import BackupKind
from mosaic_gateway_installer.backup.present_data_step import BackUpPresentStep
from mosaic_gateway_installer.backup.verification import check_files
from mosaic_gateway_installer.checks.home_errors import RunAsError
from mosaic_gateway_installer.checks.preflight import check_home
from mosaic_gateway_installer.install.plan import InstallOptions
from mosaic_gateway_installer.install.steps.gateway import StopStep
from mosaic_gateway_installer.install.verb import install_locked
from mosaic_gateway_installer.session import new_home, session
from mosaic_gateway_installer.step import Step, Target, missing_directories
from mosaic_gateway_installer.step_runner import execute

__all__ = ["BackupForeignError", "RestoreOptions", "restore"]


class BackupForeignError(RefusedError):
    """The home belongs to another instance than the backup."""

    code = "BACKUP_FOREIGN"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """The options of the verb. *asks*: there may be a prompt; *backup*: the present data is backed up first."""

    dry_run: bool = False
    yes: bool = False
    asks: bool = True
    backup: bool = True
    run_as: str | None = None


def restore(home: Home, name: str, options: RestoreOptions) -> Outcome:
    """Restore the backup *name* into *home*, start the gateway, and test it.

    Raises `BackupMissingError`, `BackupDamagedError`, `BackupForeignError`, `DatabaseNotEmptyError`, BusyError, and
    the errors of an install; the previous data then serves again. Raises `ConfirmationMissingError`.
    """
    backup = stored_backups.find_backup(home, name)
    present = check_home(home)
    _refuse(home, backup, present)
    target = _target(home, options.run_as)
    loss = read_loss(home, present, backup.manifest)
    if options.dry_run:
        check_files(backup)
        return restore_report.planned(target, backup, _steps(target, backup, present, options), loss)
    if loss is not None and not options.yes:
        confirm(home, backup.name, loss, asks=options.asks)
    with new_home(target.new_directories), session(home, "backup restore") as report:
        return _restore(target, backup, options, report)


def _restore(target: Target, backup: stored_backups.Backup, options: RestoreOptions, report: Reporter) -> Outcome:
    home = target.home
    report.begin("Verifying the checksums")
    check_files(backup)
    present = check_home(home)
    _refuse(home, backup, present)

    def finish() -> Outcome:
        outcome = install_locked(home, InstallOptions(backup=False), report)
        commit(home)
        return outcome

    steps = [step for step in _steps(target, backup, present, options) if not step.done()]
    installed = execute("backup restore", steps, target.journal, report, finish)
    target.journal.close()
    return restore_report.done(target, backup, steps, installed)


def _refuse(home: Home, backup: stored_backups.Backup, present: Receipt | None) -> None:
    """Raise `BackupForeignError` if *home* has data of another instance than *backup*. Reads only."""
    manifest = backup.manifest
    has_data = present is not None and (
        present.state is not ReceiptState.INSTALLING or postgres.cluster_of(home) is not None
    )
    if present is not None and has_data and present.instance_id != manifest.instance_id:
        raise BackupForeignError(
            f"{backup.path} belongs to instance {manifest.instance_id}, but {home.path} is instance "
            f"{present.instance_id}",
            hint="Nothing was changed. Restore it into an empty home: --home DIR.",
        )


def _target(home: Home, run_as: str | None) -> Target:
    if run_as is not None and home.broker is None:
        raise RunAsError("only root can restore for another user", hint="Leave --run-as out, or run as root.")
    # These steps use no settings, because the restore replaces them.
    return Target(config=Config(home=home), new_directories=missing_directories(home))


def _steps(
    target: Target, backup: stored_backups.Backup, present: Receipt | None, options: RestoreOptions
) -> tuple[Step, ...]:
    steps: tuple[Step, ...] = (
        restore_steps.EmptyHomeStep(target, backup),
        *([BackUpPresentStep(target, present)] if options.backup and present is not None else []),
        restore_steps.StageBackupStep(target, backup, present),
        StopStep(target),
        restore_steps.SwapStep(target),
    )
    if backup.manifest.kind is not BackupKind.DUMP:
        return steps
    from mosaic_gateway_installer.backup.dump_restore_step import RestoreDumpStep

    return (*steps, RestoreDumpStep(target, backup))
