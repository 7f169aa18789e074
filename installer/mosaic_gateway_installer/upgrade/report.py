"""The output of an upgrade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.cli import Outcome
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.hint import Text, command
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.checks.finding import warnings_of
from mosaic_gateway_installer.install.smoke_test import passed_line
from mosaic_gateway_installer.program_copy.command_link import typed_command
from mosaic_gateway_installer.step import Step, StepId
from mosaic_gateway_installer.upgrade.inspection import Inspection
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade

__all__ = ["done_outcome", "planned_outcome", "unchanged_outcome"]


def planned_outcome(inspection: Inspection, pending: Sequence[Step], refused: MosaicError | None) -> Outcome:
    """Return the outcome of a dry run, with the error that would forbid the upgrade."""
    home = inspection.target.home
    lines = [f"Would upgrade {home.path} from version {inspection.receipt.version} to {__version__}:"]
    lines += [f"  {number}. {step.description}" for number, step in enumerate(pending, 1)]
    if not inspection.is_needed:
        lines = [f"{home.path} has version {__version__} already; nothing would change."]
    result = {
        "dry_run": True,
        **_facts(inspection, pending),
        "checks": [finding.to_dict() for finding in inspection.findings],
    }
    return Outcome(result=result, lines=tuple(lines), error=refused)


def unchanged_outcome(inspection: Inspection, rolled_back: str | None) -> Outcome:
    """Return the outcome without an upgrade; *rolled_back* is the target version of one that was rolled back."""
    home = inspection.target.home
    lines = [f"{home.path} has version {__version__} already; nothing was changed."]
    if rolled_back is not None:
        lines = [f"The unfinished upgrade to {rolled_back} was rolled back; {home.path} has version {__version__}."]
    return Outcome(result={"dry_run": False, **_facts(inspection, []), "rolled_back": rolled_back}, lines=tuple(lines))


def done_outcome(inspection: Inspection, run: Upgrade, pending: Sequence[Step], warnings: Sequence[str]) -> Outcome:
    """Return the outcome of a completed upgrade."""
    home, before = inspection.target.home, inspection.receipt.version
    lines: list[Text] = [f"Upgraded {home.path} from version {before} to {__version__}."]
    if any(step.id is StepId.STOP_AGAIN for step in pending):
        lines.append("Start it: " + command("start"))
    else:
        lines.append(passed_line(inspection.target.config))
    if run.backup is not None:
        lines.append(f"The backup from before the upgrade is {backups_of(home) / run.backup}")
    typed = typed_command(home, process_environment())
    lines.append(f"The command of this version is {typed}; a command installed elsewhere may be an older version.")
    result = {
        "dry_run": False,
        **_facts(inspection, pending),
        "instance_id": inspection.receipt.instance_id,
        "smoke_test": run.smoke,
        "backup": run.backup,
        "downtime_seconds": round(run.downtime, 3) if run.downtime is not None else None,
        "command": typed,
        "notes": list(warnings),
    }
    warned = (*warnings_of(inspection.findings), *warnings)
    return Outcome(result=result, lines=tuple(lines), warnings=warned)


def _facts(inspection: Inspection, pending: Sequence[Step]) -> dict[str, Any]:
    return {
        "home": str(inspection.target.home.path),
        "engine": str(inspection.target.config.engine),
        "from": inspection.receipt.version,
        "to": __version__,
        "url": inspection.target.config.url,
        "changed": bool(pending),
        "steps": [{"id": step.id, "description": step.description} for step in pending],
    }
