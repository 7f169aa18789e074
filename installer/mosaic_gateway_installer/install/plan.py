"""The plan of an installation: its options, its steps, and those of them that have to run.

`install_steps` and `pending_steps` are pure; `pending` creates the steps for a home.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.control import registered_service
from mosaic_gateway.installation import EngineName, Manager, ReceiptState, read_receipt
from mosaic_gateway_installer.install.steps.engine import ClusterStep, MajorUpgradeStep, RuntimeStep
from mosaic_gateway_installer.install.steps.gateway import LaunchStep, SchemaStep, StartStep, StopStep
from mosaic_gateway_installer.install.steps.home import HomeStep, ProgramStep
from mosaic_gateway_installer.install.steps.retained_data import RetainedDataBackupStep
from mosaic_gateway_installer.install.steps.settings import ConfigStep, SecretStep
from mosaic_gateway_installer.program_copy.command_link import LinkCommandStep
from mosaic_gateway_installer.service import steps as service_steps
from mosaic_gateway_installer.service.manager_selection import available_manager
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["InstallOptions", "install_steps", "pending", "pending_steps"]

#: Steps that change what a running gateway has loaded: the change takes effect when the gateway restarts.
NEEDS_RESTART = frozenset(
    {
        StepId.PROGRAM,
        StepId.BACKUP,
        StepId.CONFIG,
        StepId.SECRET,
        StepId.RUNTIME,
        StepId.MAJOR_UPGRADE,
        StepId.CLUSTER,
        StepId.SERVICE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOptions:
    """The options that the caller gave; None means the existing value, or the default.

    ``postgres_failed``: the error of an attempt with PostgreSQL, selected automatically, that was rolled back.
    ``backup``: retained data that has to be migrated is backed up first.
    """

    host: str | None = None
    port: int | None = None
    engine: str | None = None
    database_url: str | None = None
    postgres_bin: Path | None = None
    pglite_dir: Path | None = None
    base_url: str | None = None
    run_as: str | None = None
    start: bool = True
    dry_run: bool = False
    accept_secret: bool = False
    postgres_failed: str | None = None
    backup: bool = True
    service: bool | None = None


def install_steps(engine: EngineName, *, start: bool, service: bool = False, backup: bool = True) -> tuple[StepId, ...]:
    """Return the ids of the steps that make up an installation.

    *start*: the gateway is started; *service*: a service manager runs it; *backup*: data that has to be migrated is
    backed up first.
    """
    steps = [StepId.HOME, StepId.PROGRAM, StepId.LINK]
    if start:
        # The program is copied before the running gateway is stopped, because copying takes time. The gateway stops
        # before the steps that change its files, so that it is restarted after they are undone. The new gateway
        # loads meanwhile, and reads nothing from the home before it is allowed to start.
        steps.append(StepId.STOP)
    if backup:
        steps.append(StepId.BACKUP)  # before the steps of both: it includes the old settings and secret
    if start and not service:
        steps.append(StepId.LAUNCH)
    steps += [StepId.CONFIG, StepId.SECRET]
    if engine is EngineName.POSTGRES:
        steps += [StepId.RUNTIME, StepId.MAJOR_UPGRADE, StepId.CLUSTER]
    if engine is EngineName.PGLITE:
        steps += [StepId.RUNTIME, StepId.CLUSTER]
    steps += [StepId.SERVICE, StepId.START if start else StepId.SCHEMA]
    return tuple(steps)


def pending_steps(steps: Sequence[StepId], done: Collection[StepId]) -> tuple[StepId, ...]:
    """Return those of *steps* that must run, given the steps that are already *done*.

    The last step (``start`` or ``schema``) runs again if a step in `NEEDS_RESTART` runs. ``launch`` runs exactly if
    ``start`` runs, ``stop`` only if a gateway is running.
    """
    pending = {step for step in steps if step not in done}
    if pending & NEEDS_RESTART:
        pending.add(steps[-1])
    if StepId.START in pending:
        pending.add(StepId.LAUNCH)  # if *steps* contain it: a service manager loads the gateway itself
    else:
        pending -= {StepId.LAUNCH, StepId.STOP}
    return tuple(step for step in steps if step in pending)


class ServiceUnavailableError(PreflightError):
    """``--service`` was given, and no service manager is available."""

    code = "SERVICE_UNAVAILABLE"


def pending(target: Target, options: InstallOptions) -> list[Step]:
    """Return the steps that have to run to reach the state that *target* and *options* describe.

    Raises `ServiceUnavailableError`.
    """
    manager = _manager(target, options)
    ids = install_steps(
        target.config.engine,
        start=options.start,
        service=manager is not None,
        backup=options.backup,
    )
    steps = {step.id: step for step in _steps(target, manager)}
    done = {step for step in ids if steps[step].done()}
    return [steps[step] for step in pending_steps(ids, done)]


def _manager(target: Target, options: InstallOptions) -> Manager | None:
    """Return the service manager that this home uses or will use. Raises `ServiceUnavailableError`."""
    receipt = read_receipt(target.home)
    wanted = options.service
    if wanted is None:
        wanted = receipt is None or receipt.service_wanted
    if not wanted:
        return None
    recorded = service_steps.service_of(receipt) if target.home.broker is None else registered_service(target.home)
    if recorded is not None and receipt is not None and receipt.state is ReceiptState.INSTALLED:
        return recorded.manager
    available = available_manager(target.home.broker)
    if available.manager is None and options.service:
        raise ServiceUnavailableError(
            f"no service can be registered: {available.reason}",
            hint="Run the command without --service: the gateway then runs in the background under its own supervisor.",
        )
    return available.manager


def _steps(target: Target, manager: Manager | None) -> tuple[Step, ...]:
    """Return all possible steps; the plan selects those that an installation consists of."""
    launch = LaunchStep(target)
    runtime: Step = RuntimeStep(target)
    database: Step = ClusterStep(target)
    if target.config.engine is EngineName.PGLITE:
        from mosaic_gateway_installer.install.steps.pglite import PgliteDataStep, PgliteRuntimeStep

        runtime, database = PgliteRuntimeStep(target), PgliteDataStep(target)
    return (
        HomeStep(target),
        ProgramStep(target),
        LinkCommandStep(target),
        StopStep(target),
        ConfigStep(target),
        SecretStep(target),
        RetainedDataBackupStep(target),
        launch,
        runtime,
        MajorUpgradeStep(target),
        database,
        service_steps.service_step(target, manager),
        SchemaStep(target),
        StartStep(target, launch),
    )
