"""What an installation consists of, and what of it is to be done. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mosaic_gateway.installation.engine_name import EngineName

__all__ = ["install_steps", "pending_steps"]

#: What a running gateway has read or stands on: a change of it takes effect with the next start.
UNDER_THE_GATEWAY = frozenset(
    {"program", "backup", "config", "secret", "runtime", "major-upgrade", "cluster", "service"}
)


def install_steps(engine: EngineName, *, start: bool, service: bool = False, backup: bool = True) -> tuple[str, ...]:
    """Return the ids of the steps that make up an installation.

    *start*: the gateway runs in the end; *service*: a service manager runs it; *backup*: data that has to be migrated
    is backed up first.
    """
    steps = ["home", "program"]
    if start:
        # The program is there before anything is stopped: copying it is what takes time.
        # The old one stops before all that changes under it, so that its undoing comes after theirs; the new
        # one loads meanwhile, and reads nothing before it is let go.
        steps.append("stop")
    if backup:
        steps.append("backup")  # of settings and secret as they were, too
    if start and not service:
        steps.append("launch")
    steps += ["config", "secret"]
    if engine is EngineName.POSTGRES:
        steps += ["runtime", "major-upgrade", "cluster"]
    if engine is EngineName.PGLITE:
        steps += ["runtime", "cluster"]
    steps += ["service", "start" if start else "schema"]
    return tuple(steps)


def pending_steps(steps: Sequence[str], done: Collection[str]) -> tuple[str, ...]:
    """Return those of *steps* that must run, given the ones that their probes found *done*.

    The last step (``start`` or ``schema``) runs again when something changes under it; ``launch`` runs with
    ``start`` and never without it, ``stop`` where there is something to stop.
    """
    pending = {step for step in steps if step not in done}
    if pending & UNDER_THE_GATEWAY:
        pending.add(steps[-1])
    if "start" in pending:
        pending.add("launch")  # where the plan has it: a service manager loads the gateway itself
    else:
        pending -= {"launch", "stop"}
    return tuple(step for step in steps if step in pending)
