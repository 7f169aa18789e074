"""The outcome of ``backup restore``, done or planned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.cli import Outcome
from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.hint import Text
from mosaic_gateway_installer.backup.loss import Loss
from mosaic_gateway_installer.backup.stored_backups import Backup
from mosaic_gateway_installer.step import Step, Target

__all__ = ["done", "planned"]


def planned(target: Target, backup: Backup, steps: tuple[Step, ...], loss: Loss | None) -> Outcome:
    """Return the outcome of ``--dry-run``: the steps, and what would be lost."""
    pending = [step for step in steps if not step.done()]
    lines = [f"Would restore {backup.path} into {target.home.path}:"]
    lines += [f"  {number}. {step.description}" for number, step in enumerate(pending, 1)]
    lines.append("  then start and test the gateway; the present data is retained until the test has passed")
    lines += [] if loss is None else loss.lines
    facts = {**_facts(target, backup, pending), "loss": None if loss is None else loss.to_dict()}
    return Outcome(result={"dry_run": True, **facts}, lines=tuple(lines))


def done(target: Target, backup: Backup, steps: Sequence[Step], installed: Outcome) -> Outcome:
    """Return the outcome of a restore; *installed* is that of the install that completed it."""
    manifest = backup.manifest
    outdated = manifest.schema != schema_digest(load_bundles())
    migrated = f", and migrated its schema to version {__version__}" if outdated else ""
    lines: list[Text] = [
        f"Restored {target.home.path} to its state of {manifest.created_at} (backup {backup.name}){migrated}.",
        f"The gateway runs at {installed.result['url']} and passed its smoke test.",
        *(note for step in steps for note in step.notes),
    ]
    result = {"dry_run": False, **_facts(target, backup, steps), "smoke_test": installed.result["smoke_test"]}
    return Outcome(result={**result, "url": installed.result["url"]}, lines=tuple(lines))


def _facts(target: Target, backup: Backup, steps: Sequence[Step]) -> dict[str, Any]:
    return {
        "home": str(target.home.path),
        "backup": str(backup.path),
        "instance_id": backup.manifest.instance_id,
        "created_at": backup.manifest.created_at,
        "steps": [{"id": step.id, "description": step.description} for step in steps],
    }
