"""The list of the checks of an installation, in the order in which they are told and mended."""

from __future__ import annotations

from mosaic_gateway.config import EngineName
from mosaic_gateway_installer.checks import database, gateway, installation, package, postgres
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.findings import Check

__all__ = ["checks_for"]


def checks_for(engine: EngineName) -> tuple[Check[Patient], ...]:
    """Return the checks of an installation with *engine*."""
    embedded = postgres.CHECKS if engine is EngineName.POSTGRES else ()
    return (*package.CHECKS, *installation.CHECKS, *embedded, *gateway.CHECKS, *database.CHECKS)
