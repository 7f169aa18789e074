"""Selection of the steps that an installation consists of, and of those that have to run."""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.control import registered_service
from mosaic_gateway.installation import EngineName, Manager, Receipt, ReceiptState, read_receipt
from mosaic_gateway_installer.install.options import InstallOptions
from mosaic_gateway_installer.install.plan import install_steps, pending_steps
from mosaic_gateway_installer.install.steps.engine import ClusterStep, RuntimeStep
from mosaic_gateway_installer.install.steps.gateway import LaunchStep, SchemaStep, StartStep, StopStep
from mosaic_gateway_installer.install.steps.home import HomeStep
from mosaic_gateway_installer.install.steps.major_upgrade import MajorUpgradeStep
from mosaic_gateway_installer.install.steps.program import ProgramStep
from mosaic_gateway_installer.install.steps.retained_data import RetainedDataBackupStep
from mosaic_gateway_installer.install.steps.settings import ConfigStep, SecretStep
from mosaic_gateway_installer.service.manager_selection import available_manager
from mosaic_gateway_installer.service.steps import service_of, service_step
from mosaic_gateway_installer.step import Step, Target

__all__ = ["pending"]


class ServiceUnavailableError(PreflightError):
    """``--service`` was given, and no service manager is available."""

    code = "SERVICE_UNAVAILABLE"


def pending(target: Target, options: InstallOptions) -> list[Step]:
    """Return the steps that have to run to reach the state that *target* and *options* describe.

    Raises `ServiceUnavailableError`.
    """
    manager = _manager(target, options, read_receipt(target.home))
    ids = install_steps(
        target.config.engine,
        start=options.start,
        service=manager is not None,
        backup=options.backup,
    )
    steps = {step.id: step for step in _steps(target, manager)}
    done = {step for step in ids if steps[step].done()}
    return [steps[step] for step in pending_steps(ids, done)]


def _manager(target: Target, options: InstallOptions, receipt: Receipt | None) -> Manager | None:
    """Return the service manager that this home uses or will use. Raises `ServiceUnavailableError`."""
    wanted = options.service
    if wanted is None:
        wanted = receipt is None or receipt.service_wanted
    if not wanted:
        return None
    recorded = service_of(receipt) if target.home.broker is None else registered_service(target.home)
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
        StopStep(target),
        ConfigStep(target),
        SecretStep(target),
        RetainedDataBackupStep(target),
        launch,
        runtime,
        MajorUpgradeStep(target),
        database,
        service_step(target, manager),
        SchemaStep(target),
        StartStep(target, launch),
    )
