"""``doctor``: run every check of an installation. Without ``--fix`` it writes only the record of its last run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mosaic_gateway.cli import Outcome
from mosaic_gateway.config import Config, load_config
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.installation import EngineName, Home, ReceiptState, installed, write_doctor_record
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.checks import database, gateway, installation, package, pglite, postgres
from mosaic_gateway_installer.checks.finding import Check, CheckResult, Level, examine, finding_lines, repair
from mosaic_gateway_installer.checks.support_archive import write_support_archive
from mosaic_gateway_installer.step import Target

__all__ = ["checks_for", "doctor"]

#: Ids of the checks that apply to a home whose purge is not complete.
AFTER_PURGE = frozenset({"package", "files", "receipt", "owner and modes", "leftovers"})


def checks_for(engine: EngineName) -> tuple[Check, ...]:
    """Return the checks of an installation with *engine*."""
    embedded = {EngineName.POSTGRES: postgres.CHECKS, EngineName.PGLITE: pglite.CHECKS}.get(engine, ())
    return (*package.CHECKS, *installation.CHECKS, *embedded, *gateway.CHECKS, *database.CHECKS)


class FaultsFoundError(PreflightError):
    """``doctor`` found faults; the result lists them."""

    code = "FAULTS_FOUND"


def doctor(home: Home, *, fix: bool = False, bundle: Path | None = None) -> Outcome:
    """Check the installation in *home*; with *fix* repair what can be repaired safely, and check that again.

    *bundle* is the path of a support archive to write. Raises `NotInstalledError`, `SupportFileError`; every other
    fault is a finding.
    """
    findings = tuple(_findings(home, fix=fix))
    with suppress(OSError):  # a full disk or a read-only home is a finding, and no reason to report none
        write_doctor_record(home, [finding.to_dict() for finding in findings])
    faults = [finding for finding in findings if finding.level is Level.FAULT]
    error = None
    if faults:
        error = FaultsFoundError(
            f"{len(faults)} {'fault' if len(faults) == 1 else 'faults'} found",
            hint="Each finding says how to repair it.",
        )
    result = {
        "findings": [finding.to_dict() for finding in findings],
        "repaired": [finding.check for finding in findings if finding.repaired],
    }
    lines = finding_lines(findings)
    if bundle is not None:
        files = write_support_archive(bundle, home, _config(home), [_without_link(one) for one in findings])
        result["bundle"] = {"file": str(bundle), "files": files}
        lines = (*lines, f"Wrote the support archive {bundle}. Known secrets are masked. Review it before you share")
        lines = (*lines, "it: host names, user names, addresses and log lines are in it.")
    return Outcome(result=result, lines=lines, error=error)


def _config(home: Home) -> Config | None:
    with suppress(MosaicError):
        return load_config(home, flags={}, environ=process_environment())
    return None


def _without_link(finding: CheckResult) -> CheckResult:
    """Leave out what a fix reported: it may contain a new set-up link, which must not get into the archive."""
    return replace(finding, repaired="done") if finding.repaired else finding


def _findings(home: Home, *, fix: bool) -> Iterator[CheckResult]:
    receipt = installed(home)
    settings = examine(Check(id="settings", run=_settings), Target(config=Config(home=home), receipt=receipt))
    yield settings
    if settings.level is not Level.OK:
        return
    target = Target(config=load_config(home, flags={}, environ=process_environment()), receipt=receipt)
    for check in checks_for(target.config.engine):
        if check.needs_programs and receipt.state is ReceiptState.RETAINED:
            yield CheckResult(check=check.id, level=Level.UNCHECKED, message="not checked: it was uninstalled")
            continue
        if receipt.state is ReceiptState.PURGING and check.id not in AFTER_PURGE:
            yield CheckResult(check=check.id, level=Level.UNCHECKED, message="not checked: its purge is not complete")
            continue
        finding = examine(check, target)
        yield repair(check, target, finding) if fix else finding


def _settings(target: Target) -> str:
    load_config(target.home, flags={}, environ=process_environment())
    return f"{target.home.config_file} is valid"
