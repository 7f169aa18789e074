"""The checks of an installation, in the order in which they are reported and repaired."""

from __future__ import annotations

from mosaic_gateway.installation import EngineName
from mosaic_gateway_installer.checks import database, gateway, installation, package, pglite, postgres
from mosaic_gateway_installer.checks.finding import Check

__all__ = ["checks_for"]


def checks_for(engine: EngineName) -> tuple[Check, ...]:
    """Return the checks of an installation with *engine*."""
    embedded = {EngineName.POSTGRES: postgres.CHECKS, EngineName.PGLITE: pglite.CHECKS}.get(engine, ())
    return (*package.CHECKS, *installation.CHECKS, *embedded, *gateway.CHECKS, *database.CHECKS)
