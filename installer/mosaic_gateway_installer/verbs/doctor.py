"""doctor: every check of an installation, each with a code and what to do; reads only."""

from __future__ import annotations

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.config import Home, load_config, process_environment
from mosaic_gateway.errors import PreflightError
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.checks.run import checks_for
from mosaic_gateway_installer.findings import Check, Finding, Level, examine, finding_lines
from mosaic_gateway_installer.verbs.uninstall import installed

__all__ = ["doctor"]


class FaultsFoundError(PreflightError):
    """The doctor found faults; the result lists them."""

    code = "FAULTS_FOUND"


def doctor(home: Home) -> Outcome:
    """Check the installation in *home*. Raises `NotInstalledError`; every other fault is a finding."""
    receipt = installed(home)
    findings: list[Finding] = [examine(Check(id="settings", run=_settings), home)]
    if findings[0].level is Level.OK:
        patient = Patient(config=load_config(home, flags={}, environ=process_environment()), receipt=receipt)
        findings += [examine(check, patient) for check in checks_for(patient.config.engine)]
    faults = [finding for finding in findings if finding.level is Level.FAULT]
    error = None
    if faults:
        error = FaultsFoundError(f"{len(faults)} fault(s) found", hint="Each finding says what mends it.")
    return Outcome(
        result={"findings": [finding.to_dict() for finding in findings]},
        lines=finding_lines(findings),
        error=error,
    )


def _settings(home: Home) -> str:
    load_config(home, flags={}, environ=process_environment())
    return f"{home.config_file} is valid"
