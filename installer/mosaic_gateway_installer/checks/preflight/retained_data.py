"""Checks of existing data: same engine, secret present, compatible version and schema (`check_adoption`)."""

from __future__ import annotations

from dataclasses import replace

from mosaic_gateway import __version__
from mosaic_gateway.errors import RefusedError
from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.gateway.control import OtherVersionError
from mosaic_gateway.hint import command
from mosaic_gateway.installation import ReceiptState
from mosaic_gateway_installer.checks.finding import Check, require_home
from mosaic_gateway_installer.install.adoption import check_adoption
from mosaic_gateway_installer.install.steps.settings import has_secret
from mosaic_gateway_installer.step import Target
from mosaic_gateway_installer.upgrade.plan import downgrade

__all__ = ["CHECKS", "EngineMismatchError", "SecretLostError"]


class EngineMismatchError(RefusedError):
    """The home's data belongs to another engine."""

    code = "ENGINE_MISMATCH"


class SecretLostError(RefusedError):
    """There is data, but its secret is missing."""

    code = "SECRET_LOST"


def retained(target: Target) -> str:
    """Check that the data in the home is compatible with the requested installation.

    Raises `EngineMismatchError`, `SecretLostError`, and the errors of `check_adoption`.
    """
    require_home(target)
    config, receipt = target.config, target.receipt
    if receipt is None:
        return "none, the home is new"
    if receipt.engine != config.engine:
        raise EngineMismatchError(
            f"{config.home.path} holds data of the engine {receipt.engine}, not {config.engine}",
            hint=f"Omit --engine, or choose another --home. The data cannot be moved from {receipt.engine}.",
        )
    has_data = target.has_database or receipt.state is not ReceiptState.INSTALLING
    if has_data and config.auth_secret is None and not has_secret(config.home):
        raise SecretLostError(
            f"{config.home.path} contains data, but its secret {config.home.auth_secret} is missing",
            hint="Restore the file from a backup, or set BETTER_AUTH_SECRET to the old value. "
            "No new secret is created for existing data.",
        )
    if has_data:
        known = replace(receipt, secret_check=None) if target.accept_secret else receipt
        check_adoption(config, known, schema_digest(load_bundles()))
    return "the data in the home is compatible"


def version(target: Target) -> str:
    """Check that the home is not an installation of another version. Raises `OtherVersionError`."""
    require_home(target)
    receipt = target.receipt
    if receipt is None or receipt.state is not ReceiptState.INSTALLED or target.upgrading:
        return f"version {__version__}"
    schema = schema_digest(load_bundles())
    if downgrade(receipt.version, __version__, receipt.schema, schema) is not None:
        return f"version {receipt.version} is installed"  # `retained` raises the error
    if receipt.version != __version__ or receipt.schema not in {None, schema}:
        raise OtherVersionError(
            f"{target.home.path} is an installation of version {receipt.version}; this is {__version__}",
            hint="Upgrade the installation, with a backup and rollback: " + command("upgrade"),
            details={"installed": receipt.version, "version": __version__},
        )
    return f"version {__version__} is installed"


CHECKS: tuple[Check, ...] = (
    Check(id="retained data", run=retained),
    Check(id="version", run=version),
)
