"""Checks before an installation. All of them run, and all faults are reported together, before any change."""

from mosaic_gateway_installer.checks.preflight.home import check_home, inspect_home
from mosaic_gateway_installer.checks.preflight.run import PreflightFailedError, check_install, examine_install

__all__ = ["PreflightFailedError", "check_home", "check_install", "examine_install", "inspect_home"]
