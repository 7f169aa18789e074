"""Output of an install: what it would do, what it did, or how to go on after it failed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.cli import Outcome
from mosaic_gateway.errors import ExitCode, InternalError, MosaicError
from mosaic_gateway.gateway.control import GatewayStartError, registered_service
from mosaic_gateway.hint import PROGRAM, Hint, Text, command
from mosaic_gateway.installation import Manager, read_receipt
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.checks.finding import CheckResult, finding_lines, warnings_of
from mosaic_gateway_installer.install.smoke_test import passed_line
from mosaic_gateway_installer.program_copy.command_link import typed_command
from mosaic_gateway_installer.service.manager_selection import lingers
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["advise_retry", "done_outcome", "planned_outcome"]

LINGER = "loginctl enable-linger"
START_FAILED = {GatewayStartError.code, InternalError.code}  # it exited without a message, or with an unexpected error


def planned_outcome(target: Target, findings: Sequence[CheckResult], pending: Sequence[Step]) -> Outcome:
    """Return the result of a dry run with the steps *pending*."""
    checks = {"checks": [finding.to_dict() for finding in findings]}
    lines = [f"Would install into {target.home.path} (engine {_summary(target)}):"]
    lines += [f"  {number}. {step.description}" for number, step in enumerate(pending, 1)]
    if not pending:
        lines = [f"{target.home.path} is installed; nothing would change."]
    return Outcome(
        result={"dry_run": True, **_facts(target, pending), **checks}, lines=(*finding_lines(findings), *lines)
    )


def done_outcome(
    target: Target,
    findings: Sequence[CheckResult],
    pending: Sequence[Step],
    smoke: dict[str, Any] | None,
    link: str | None,
) -> Outcome:
    """Return the result after the steps *pending* ran.

    *findings* are those of the checks before. *smoke* is the result of the smoke test, *link* the URL for the creation
    of the first admin.
    """
    receipt = read_receipt(target.home)
    instance = receipt.instance_id if receipt else ""
    lines: list[Text] = [f"mosaic-gateway {__version__} is installed in {target.home.path} (instance {instance})."]
    lines.append(f"The database is run by {_summary(target)}.")
    if not pending:
        lines = [f"{target.home.path} is already installed; nothing was changed (instance {instance})."]
    if smoke is None:
        lines.append("Start it: " + command("start"))
    else:
        lines.append(passed_line(target.config))
    lines += [note for step in pending for note in step.notes]
    lines += _service_lines(target, pending)
    typed = typed_command(target.home, process_environment())
    if pending:
        lines.append(f"Its command is {typed}" + ("." if typed == PROGRAM else ", which is not on your PATH."))
    if link is not None:
        lines += ["", "Create the first admin on this page (the link works once, within 24 hours):", f"  {link}"]
    elif smoke is not None and smoke["needsSetup"]:
        lines.append("No admin yet. The earlier link still works; for a new one: " + command("bootstrap link"))
    result = {
        "dry_run": False,
        **_facts(target, pending),
        "instance_id": instance,
        "smoke_test": smoke,
        "setup_url": link,
        "command": typed,
    }
    return Outcome(result=result, lines=tuple(lines), warnings=warnings_of(findings))


def _summary(target: Target) -> str:
    reason = target.engine_reason
    return f"{target.config.engine}: {reason}" if reason else str(target.config.engine)


def _service_lines(target: Target, pending: Sequence[Step]) -> list[Text]:
    """Return the lines about the service; none if nothing was changed."""
    summary: list[Text] = []
    service = registered_service(target.home)
    if service is None and pending:
        start = f"{shlex.quote(str(target.home.launcher))} start"
        summary.append(f"It is not a service. To start it with the machine, run crontab -e and add: @reboot {start}")
    if service is not None and any(step.id is StepId.SERVICE for step in pending):
        summary.append(f"It starts with the machine ({service.described}).")
        if service.manager is Manager.SYSTEMD_USER and not lingers():
            summary[-1] = f"It starts when you log in ({service.described}). To start with the machine: {LINGER}"
    return summary


def _facts(target: Target, pending: Sequence[Step]) -> dict[str, Any]:
    return {
        "home": str(target.home.path),
        "engine": str(target.config.engine),
        "engine_reason": target.engine_reason,
        "url": target.config.url,
        "account": target.account_name,
        "service": service.described if (service := registered_service(target.home)) is not None else None,
        "changed": bool(pending),
        "steps": [{"id": step.id, "description": step.description} for step in pending],
    }


def advise_retry(error: MosaicError, again: Hint) -> None:
    """Set the hint of *error* to the command *again*, if its own hint assumes that the changes are still in place."""
    # By code: a gateway that exits passes its error to the process that started it as JSON, without the class.
    if error.exit_code in {ExitCode.MIGRATION, ExitCode.SMOKE_TEST} or error.code in START_FAILED:
        error.hint = "Remove the cause, then run it again: " + again
