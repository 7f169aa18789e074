"""The home itself: package, receipt, owner and modes, secret."""

from __future__ import annotations

import shlex
import stat

from mosaic_gateway.config import load_auth_secret
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.findings import Check, NotCheckedError
from mosaic_gateway_installer.receipt import ReceiptState

__all__ = ["CHECKS"]


class IncompleteError(PreflightError):
    """An install or uninstall did not come to its end."""

    code = "INSTALL_INCOMPLETE"


class ModeError(PreflightError):
    """A file or directory of the home is open to other users."""

    code = "HOME_MODE"


def _package(_patient: Patient) -> str:
    count = sum(len(bundle.migrations) for bundle in load_bundles())
    return f"{count} migrations, every hash as built"


def _receipt(patient: Patient) -> str:
    receipt, home = patient.receipt, patient.home
    holder = holder_of(home.lock)
    if holder is not None:
        raise NotCheckedError(f"not checked: process {holder.pid} changes it ({holder.facts.get('verb')})")
    if receipt.state is ReceiptState.KEPT:
        raise IncompleteError("it was uninstalled, its data is kept", hint="To take it up: mosaic-gateway install.")
    if receipt.state is not ReceiptState.INSTALLED or home.journal.exists():
        raise IncompleteError("an install or uninstall did not come to its end", hint="Run mosaic-gateway install.")
    return f"instance {receipt.instance_id}, version {receipt.version}"


def _modes(patient: Patient) -> str:
    home, _ = patient.home, patient.account
    secrets = home.secrets.iterdir() if home.secrets.is_dir() else ()
    directories = (home.path, home.secrets, home.data, home.runtime, home.run, home.logs)
    for path in (*directories, *secrets, home.config_file, home.receipt, home.gateway_log, home.postgres_log):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            right = "700" if path.is_dir() else "600"
            raise ModeError(f"{path} is open to other users", hint=f"Close it: chmod {right} {shlex.quote(str(path))}")
    return "the home is closed to other users"


def _secret(patient: Patient) -> str:
    load_auth_secret(patient.config)
    return "the authentication secret is there"


CHECKS: tuple[Check[Patient], ...] = (
    Check(id="package", run=_package),
    Check(id="receipt", run=_receipt),
    Check(id="owner and modes", run=_modes),
    Check(id="secret", run=_secret),
)
