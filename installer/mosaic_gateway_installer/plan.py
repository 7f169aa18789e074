"""What an installation consists of: the steps, in their order. Pure."""

from __future__ import annotations

from mosaic_gateway.config import EngineName

__all__ = ["install_steps"]


def install_steps(engine: EngineName, *, account: bool, make_account: bool, start: bool) -> tuple[str, ...]:
    """Return the ids of the steps that make up an installation.

    *account*: the home belongs to another account than the user who installs; *make_account*: that
    account is ours to make; *start*: the gateway runs in the end.
    """
    steps = ["home"]
    if make_account:
        steps.append("account")
    if account:
        steps.append("hand-over")
    steps += ["config", "secret"]
    if engine is EngineName.POSTGRES:
        steps += ["runtime", "cluster"]
    steps.append("start" if start else "schema")
    return tuple(steps)
