"""The plan of an installation: its steps, and those of them that have to run. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mosaic_gateway.installation import EngineName
from mosaic_gateway_installer.step import StepId

__all__ = ["install_steps", "pending_steps"]

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


def install_steps(engine: EngineName, *, start: bool, service: bool = False, backup: bool = True) -> tuple[StepId, ...]:
    """Return the ids of the steps that make up an installation.

    *start*: the gateway is started; *service*: a service manager runs it; *backup*: data that has to be migrated is
    backed up first.
    """
    steps = [StepId.HOME, StepId.PROGRAM]
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
