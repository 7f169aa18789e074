"""Runs a verb that root called in a process of the home's owner, without a broker for operations as root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.cli.root import run_words
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.process.account import UNPRIVILEGED, Account, HomeOwnerError, account_named, account_of
from mosaic_gateway.process.channel import BrokerClient
from mosaic_gateway.process.root_requests import Reply, Request
from mosaic_gateway.process.trusted_path import FoundPath, find_path

__all__ = ["OwnerOnly", "owner_of", "unprivileged"]


class InstallerNeededError(RefusedError):
    """The operation needs the installer, which the command ``mosaic-gateway`` includes."""

    code = "NEEDS_INSTALLER"


class OwnerOnly:
    """Runs a verb as the owner of its home; implements ``RootSide``."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run the verb; see ``RootSide.run``."""
        from mosaic_gateway.cli.worker_process import run_worker

        del options

        def run(broker: BrokerClient) -> int:
            return run_words(invocation.verbs, invocation.words, broker=broker)

        with find_path(home) as found:
            return run_worker(
                invocation,
                owner_of(found),
                facts={"home": str(found.path)},
                answer=_refuse,
                run=run,
                verb=verb,
            )


def owner_of(found: FoundPath) -> Account:
    """Return the owner of the path *found*; an unprivileged account if the path does not exist or root owns it.

    Raises `HomeOwnerError` for an owner without an entry in the user database.
    """
    if not found.owner:
        return unprivileged()
    account = account_of(found.owner)
    if account is None:
        raise HomeOwnerError(
            f"{found.path} belongs to user id {found.owner}, which has no entry in the user database",
            hint="Change the owner to an existing user (chown -R), or choose another --home.",
        )
    return account


def unprivileged() -> Account:
    """Return the unprivileged account of this machine, or the kernel's overflow user id if there is none."""
    account = account_named(UNPRIVILEGED.name)
    return account if account is not None and account.uid != 0 else UNPRIVILEGED


def _refuse(request: Request, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
    raise InstallerNeededError(
        f"{request} needs the installer", hint="Run the command mosaic-gateway instead of python -m mosaic_gateway."
    )
