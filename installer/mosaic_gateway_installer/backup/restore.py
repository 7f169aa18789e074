"""The verb ``backup restore``: replaces the present data by a backup, or restores it into an empty home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.cli import Outcome, Reporter
from mosaic_gateway.config import Config
from mosaic_gateway.engines import postgres
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.installation import Home, Receipt, ReceiptState
from mosaic_gateway_installer.backup import restore_steps, stored_backups
from mosaic_gateway_installer.backup.data_swap import commit
from mosaic_gateway_installer.backup.manifest import BackupKind
from mosaic_gateway_installer.backup.verification import check_files
from mosaic_gateway_installer.checks.home_errors import RunAsError
from mosaic_gateway_installer.checks.preflight import check_home
from mosaic_gateway_installer.install.plan import InstallOptions
from mosaic_gateway_installer.install.steps.gateway import StopStep
from mosaic_gateway_installer.install.verb import install_locked
from mosaic_gateway_installer.session import new_home, session
from mosaic_gateway_installer.step import Step, Target, missing_directories
from mosaic_gateway_installer.step_runner import execute

__all__ = ["BackupForeignError", "restore"]


class BackupForeignError(RefusedError):
    """The home belongs to another instance than the backup."""

    code = "BACKUP_FOREIGN"


def restore(home: Home, name: str, *, dry_run: bool, run_as: str | None) -> Outcome:
    """Restore the backup *name* into *home*, start the gateway, and test it.

    Raises `BackupMissingError`, `BackupDamagedError`, `BackupForeignError`, `DatabaseNotEmptyError`, BusyError, and
    the errors of an install; the previous data then serves again.
    """
    backup = stored_backups.find_backup(home, name)
    present = check_home(home)
    _refuse(home, backup, present)
    target = _target(home, run_as)
    if dry_run:
        check_files(backup)
        return _planned(target, backup, _steps(target, backup, present))
    with new_home(target.new_directories), session(home, "backup restore") as report:
        return _restore(target, backup, report)


def _restore(target: Target, backup: stored_backups.Backup, report: Reporter) -> Outcome:
    home = target.home
    report.begin("Verifying the checksums")
    check_files(backup)
    present = check_home(home)
    _refuse(home, backup, present)

    def finish() -> Outcome:
        outcome = install_locked(home, InstallOptions(backup=False), report)
        commit(home)
        return outcome

    steps = [step for step in _steps(target, backup, present) if not step.done()]
    installed = execute("backup restore", steps, target.journal, report, finish)
    target.journal.close()
    return _outcome(target, backup, steps, installed)


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


def _steps(target: Target, backup: stored_backups.Backup, present: Receipt | None) -> tuple[Step, ...]:
    steps = (
        restore_steps.EmptyHomeStep(target, backup),
        restore_steps.StageBackupStep(target, backup, present),
        StopStep(target),
        restore_steps.SwapStep(target),
    )
    if backup.manifest.kind is not BackupKind.DUMP:
        return steps
    from mosaic_gateway_installer.backup.dump_restore_step import RestoreDumpStep

    return (*steps, RestoreDumpStep(target, backup))


def _planned(target: Target, backup: stored_backups.Backup, steps: tuple[Step, ...]) -> Outcome:
    pending = [step for step in steps if not step.done()]
    lines = [f"Would restore {backup.path} into {target.home.path}:"]
    lines += [f"  {number}. {step.description}" for number, step in enumerate(pending, 1)]
    lines.append("  then start and test the gateway; the present data is retained until the test has passed")
    return Outcome(result={"dry_run": True, **_facts(target, backup, pending)}, lines=tuple(lines))


def _outcome(target: Target, backup: stored_backups.Backup, steps: Sequence[Step], installed: Outcome) -> Outcome:
    manifest = backup.manifest
    outdated = manifest.schema != schema_digest(load_bundles())
    migrated = f", and migrated its schema to version {__version__}" if outdated else ""
    lines = [
        f"Restored {target.home.path} to its state of {manifest.created_at} (backup {backup.name}){migrated}.",
        f"The gateway runs at {installed.result['url']} and passed its smoke test.",
    ]
    result = {"dry_run": False, **_facts(target, backup, steps), "smoke_test": installed.result["smoke_test"]}
    return Outcome(result={**result, "url": installed.result["url"]}, lines=tuple(lines))


def _facts(target: Target, backup: stored_backups.Backup, steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "home": str(target.home.path),
        "backup": str(backup.path),
        "instance_id": backup.manifest.instance_id,
        "created_at": backup.manifest.created_at,
        "steps": [{"id": step.id, "description": step.description} for step in steps],
    }
