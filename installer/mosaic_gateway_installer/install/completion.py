"""What completes an installation after its steps: the smoke test, the set-up link, the receipt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.auth import setup_url
from mosaic_gateway.cli import Reporter
from mosaic_gateway.gateway import load_bundles, open_database, schema_digest
from mosaic_gateway.installation import ReceiptState, installed, write_receipt
from mosaic_gateway_installer.install.adoption import data_identity_of
from mosaic_gateway_installer.install.plan import InstallOptions
from mosaic_gateway_installer.install.smoke_test import log_in_error, smoke_test
from mosaic_gateway_installer.step import Step, StepId, Target
from mosaic_gateway_installer.upgrade.major_version import remove_record

__all__ = ["complete"]


def complete(
    target: Target, options: InstallOptions, steps: Sequence[Step], report: Reporter
) -> tuple[dict[str, Any] | None, str | None]:
    """Test the gateway that *steps* have started, and mark the installation as complete.

    Returns the result of the smoke test and a set-up link, None where there is none. Raises SmokeTestError, OSError.
    """
    smoke = link = None
    if options.start:
        report.begin("Running the smoke test")
        fresh = any(step.id is StepId.CLUSTER for step in steps)
        with log_in_error(target.home):
            smoke = smoke_test(target.config.local_url, needs_setup=True if fresh else None)
        report.done("The smoke test passed")
        link = _link(target, steps) if smoke["needsSetup"] else None
    _record(target, options)
    return smoke, link


def _record(target: Target, options: InstallOptions) -> None:
    """Mark the installation as complete in the receipt, and delete the journal."""
    receipt = installed(target.home)
    identity = data_identity_of(target.home, target.config.auth_secret)
    complete = replace(
        receipt,
        service_wanted=receipt.service_wanted if options.service is None else options.service,
        state=ReceiptState.INSTALLED,
        retained=(),
        system_identifier=identity.system_identifier,
        secret_check=identity.secret_check,
        version=__version__,
        schema=schema_digest(load_bundles()),
    )
    if complete != receipt:
        write_receipt(target.home, complete)
    remove_record(target.home)
    target.journal.close()


def _link(target: Target, steps: Sequence[Step]) -> str | None:
    """Return a link for the creation of the first admin, None if an earlier link is still valid."""
    issued = next((step.setup_url for step in steps if step.setup_url is not None), None)
    if issued is not None:
        return issued
    from mosaic_gateway.auth import accounts

    with open_database(target.config) as conninfo:
        if accounts.has_setup_token(conninfo):
            return None
        return setup_url(target.config.url, accounts.issue_setup_token(conninfo))
