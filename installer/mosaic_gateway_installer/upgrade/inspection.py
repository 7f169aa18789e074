"""The state of a home before an upgrade, and the reasons against an upgrade. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway import __version__
from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.hint import command
from mosaic_gateway.installation import Home, NotInstalledError, Receipt, ReceiptState, read_mark
from mosaic_gateway_installer.backup.contents import data_of
from mosaic_gateway_installer.backup.disk_space import check_free_space, size_of
from mosaic_gateway_installer.backup.stopped_gateway import GatewayInForegroundError
from mosaic_gateway_installer.backup.stored_backups import backups_of
from mosaic_gateway_installer.backup.tree_copy import can_share
from mosaic_gateway_installer.checks.finding import CheckResult
from mosaic_gateway_installer.checks.preflight.run import check_install
from mosaic_gateway_installer.install.inspection import inspected
from mosaic_gateway_installer.install.plan import InstallOptions
from mosaic_gateway_installer.step import Target
from mosaic_gateway_installer.upgrade.facts import upgrade_facts
from mosaic_gateway_installer.upgrade.plan import UpgradeFacts, downgrade, is_needed, refusal

__all__ = ["Inspection", "check_upgrade", "inspect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The state of a home before an upgrade, and the results of the preflight checks."""

    target: Target
    receipt: Receipt
    facts: UpgradeFacts
    findings: tuple[CheckResult, ...]

    @property
    def is_needed(self) -> bool:
        """Whether there is an upgrade to do or to complete."""
        return is_needed(self.facts) or read_mark(self.target.home) is not None


def inspect(home: Home) -> Inspection:
    """Inspect *home*. Raises `NotInstalledError`, the errors of `downgrade` and `upgrade_facts`."""
    target, findings = inspected(home, InstallOptions(), upgrading=True)
    if target.receipt is None:
        check_install(findings)  # raises if a check has found why there is no usable receipt
    receipt = target.installed
    if receipt.state is not ReceiptState.INSTALLED:
        raise NotInstalledError(
            f"the installation in {home.path} is incomplete", hint="Run " + command("install") + " to complete it."
        )
    older = downgrade(receipt.version, __version__, receipt.schema, schema_digest(load_bundles()))
    if older is not None:
        raise older
    return Inspection(target=target, receipt=receipt, facts=upgrade_facts(target.config, receipt), findings=findings)


def check_upgrade(inspection: Inspection, *, backup: bool) -> None:
    """Raise the error that forbids the upgrade, if there is one. Reads only."""
    refused = refusal(inspection.facts, backup=backup)
    if refused is not None:
        raise refused
    home, engine = inspection.target.home, inspection.target.config.engine
    state = gateway_process.state_of(home, ask=False)
    if state.running and state.supervisor is None and not state.under_service:
        raise GatewayInForegroundError(
            f"a gateway runs in the foreground (process {state.pid}) and could not be restarted after the upgrade",
            hint="Stop it, then run the command again.",
        )
    data = data_of(home, engine)
    if backup and data is not None and not can_share(data, home.path):
        check_free_space(backups_of(home), size_of([data]), "The backup before the upgrade")
