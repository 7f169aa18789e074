"""Selection of the steps that an upgrade consists of."""

from __future__ import annotations

from mosaic_gateway.cli import Reporter
from mosaic_gateway.gateway.control import ProgramMissingError, current_program, gateway_process, registered_service
from mosaic_gateway.hint import command
from mosaic_gateway.installation import EngineName, Home, read_mark
from mosaic_gateway_installer.backup.contents import data_of
from mosaic_gateway_installer.backup.tree_copy import can_share
from mosaic_gateway_installer.install.steps.engine import MajorUpgradeStep
from mosaic_gateway_installer.install.steps.pglite import PgliteRuntimeStep
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.step import Step, StepId
from mosaic_gateway_installer.upgrade.inspection import Inspection
from mosaic_gateway_installer.upgrade.plan import upgrade_steps
from mosaic_gateway_installer.upgrade.running_upgrade import Upgrade
from mosaic_gateway_installer.upgrade.steps import begin, data, final, switch

__all__ = ["current_program_name", "select_steps"]


def select_steps(inspection: Inspection, report: Reporter, *, backup: bool) -> tuple[Upgrade, list[Step]]:
    """Return the upgrade and its steps, in order. Raises `ProgramMissingError`."""
    target, home = inspection.target, inspection.target.home
    if not programs_of(home).can_place():
        raise ProgramMissingError(
            "this command runs from the home's own program copy, which cannot be installed into it again",
            hint="Run " + command("upgrade") + " from the environment of the new version, or use --version or --wheel.",
        )
    mark = read_mark(home)
    source = mark.source_program if mark is not None else current_program_name(home)
    run = Upgrade(
        target=target,
        receipt=inspection.receipt,
        report=report,
        source_program=source,
        new_program=programs_of(home).find_gateway() or "",
    )
    state = gateway_process.state_of(home, ask=False)
    ran = mark.ran if mark is not None else state.running or state.supervisor is not None
    source_data = data_of(home, target.config.engine)
    ids = upgrade_steps(
        inspection.facts,
        backup=backup,
        ran=ran,
        embedded=target.config.engine is not EngineName.SERVER,
        service=registered_service(home) is not None,
        ahead=(
            target.config.engine is EngineName.POSTGRES
            and state.running
            and source_data is not None
            and not can_share(source_data, home.path)
        ),
    )
    available: dict[StepId, Step] = {
        step.id: step
        for step in (
            begin.StageProgramStep(run), begin.CopyAheadStep(run), begin.MarkStep(run), begin.StopOldStep(run),
            begin.LaunchNewStep(run), data.BackupStep(run),
            PgliteRuntimeStep(target) if target.config.engine is EngineName.PGLITE else data.ProgramsStep(run),
            data.NewMajorStep(run, MajorUpgradeStep(target)), data.MigrateStep(run),
            switch.StartNewStep(run), switch.SmokeStep(run), switch.SwitchStep(run), final.ResumeServiceStep(run),
            final.StopAgainStep(run), final.SealStep(run), final.PruneStep(run),
        )
    }  # fmt: skip
    return run, [available[step] for step in ids]


def current_program_name(home: Home) -> str | None:
    """Return the name of the program copy in use, None if there is none."""
    try:
        program = current_program(home)
    except ProgramMissingError:
        return None
    return program.directory.name if program is not None else None
