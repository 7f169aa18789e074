"""Of which steps an installation consists, and which of them are to run."""

from __future__ import annotations

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.control.service import Manager, registered_service
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.install.options import InstallOptions
from mosaic_gateway_installer.install.plan import install_steps, pending_steps
from mosaic_gateway_installer.install.steps.engine import ClusterStep, RuntimeStep
from mosaic_gateway_installer.install.steps.gateway import LaunchStep, SchemaStep, StartStep, StopStep
from mosaic_gateway_installer.install.steps.home import HomeStep
from mosaic_gateway_installer.install.steps.major_upgrade import MajorUpgradeStep
from mosaic_gateway_installer.install.steps.program import ProgramStep
from mosaic_gateway_installer.install.steps.retained_data import RetainedDataBackupStep
from mosaic_gateway_installer.install.steps.settings import ConfigStep, SecretStep
from mosaic_gateway_installer.receipt import Receipt, ReceiptState, read_receipt
from mosaic_gateway_installer.service.manager_selection import available_manager
from mosaic_gateway_installer.service.steps import service_of, service_step
from mosaic_gateway_installer.step import Context, Step

__all__ = ["pending"]


class ServiceUnavailableError(PreflightError):
    """A service was asked for, and no service manager is there to keep it."""

    code = "SERVICE_UNAVAILABLE"


def pending(context: Context, options: InstallOptions) -> list[Step]:
    """Return the steps that an installation as *context* and *options* have it lacks.

    Raises `ServiceUnavailableError`.
    """
    manager = _manager(context, options, read_receipt(context.home))
    ids = install_steps(
        context.config.engine,
        start=options.start,
        service=manager is not None,
        backup=options.backup,
    )
    steps = {step.id: step for step in _steps(context, manager)}
    done = {step for step in ids if steps[step].done()}
    return [steps[step] for step in pending_steps(ids, done)]


def _manager(context: Context, options: InstallOptions, receipt: Receipt | None) -> Manager | None:
    """Return the service manager that this home has or gets. Raises `ServiceUnavailableError`."""
    wanted = options.service
    if wanted is None:
        wanted = receipt is None or receipt.service_wanted
    if not wanted:
        return None
    recorded = service_of(receipt) if context.home.broker is None else registered_service(context.home)
    if recorded is not None and receipt is not None and receipt.state is ReceiptState.INSTALLED:
        return recorded.manager
    found = available_manager(context.home.broker)
    if found.manager is None and options.service:
        raise ServiceUnavailableError(
            f"no service can be registered: {found.reason}",
            hint="Leave --service out: the gateway then runs in the background, kept by its own supervisor.",
        )
    return found.manager


def _steps(context: Context, manager: Manager | None) -> tuple[Step, ...]:
    """Return every step there is; the plan says which of them an installation has."""
    launch = LaunchStep(context)
    runtime: Step = RuntimeStep(context)
    database: Step = ClusterStep(context)
    if context.config.engine is EngineName.PGLITE:
        from mosaic_gateway_installer.install.steps.pglite import PgliteDataStep, PgliteRuntimeStep

        runtime, database = PgliteRuntimeStep(context), PgliteDataStep(context)
    return (
        HomeStep(context),
        ProgramStep(context),
        StopStep(context),
        ConfigStep(context),
        SecretStep(context),
        RetainedDataBackupStep(context),
        launch,
        runtime,
        MajorUpgradeStep(context),
        database,
        service_step(context, manager),
        SchemaStep(context),
        StartStep(context, launch),
    )
