"""Root's side of a verb without the installer: it runs as the home's owner, and nothing is done for it as root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mosaic_gateway.cli.invocation import Invocation
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.process.account import NOBODY, Account, HomeOwnerError, account_named, account_of
from mosaic_gateway.process.channel import BrokerClient
from mosaic_gateway.process.root_requests import Reply, Request
from mosaic_gateway.process.trusted_path import FoundPath, find_path

__all__ = ["OwnerOnly", "owner_of", "unprivileged"]


class NotHereError(RefusedError):
    """What was asked for needs the whole command, ``mosaic-gateway``."""

    code = "NEEDS_INSTALLER"


class OwnerOnly:
    """Runs a verb as the owner of its home; implements ``RootSide``."""

    def run(self, invocation: Invocation, verb: str, home: Path, options: Mapping[str, Any]) -> int:
        """Run it; see ``RootSide.run``."""
        from mosaic_gateway.cli.root import run_words
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
    """Return the account that owns what was *found*; one without rights, where nothing is there or it is root's.

    Raises `HomeOwnerError` for an owner that the machine does not know.
    """
    if not found.owner:
        return unprivileged()
    account = account_of(found.owner)
    if account is None:
        raise HomeOwnerError(
            f"{found.path} belongs to user id {found.owner}, which this machine does not know",
            hint="Give the directory to an existing user (chown -R), or choose another --home.",
        )
    return account


def unprivileged() -> Account:
    """Return the account without rights that this machine has, or the number that every kernel has for one."""
    found = account_named(NOBODY.name)
    return found if found is not None and found.uid != 0 else NOBODY


def _refuse(request: Request, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
    raise NotHereError(f"{request} needs the whole command", hint="Run mosaic-gateway, which has the installer.")
