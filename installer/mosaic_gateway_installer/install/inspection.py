"""The state that an installation is to have, and the results of the checks before it. Reads only."""

from __future__ import annotations

from dataclasses import replace

from mosaic_gateway.config import Config, load_config
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation import EngineName, Home, Receipt
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.checks.finding import CheckResult
from mosaic_gateway_installer.checks.home_errors import RunAsError
from mosaic_gateway_installer.checks.host import read_host
from mosaic_gateway_installer.checks.preflight import examine_install, inspect_home
from mosaic_gateway_installer.install.engine_selection import AUTO, EngineSelection, probe_engines, select_engine
from mosaic_gateway_installer.install.plan import InstallOptions
from mosaic_gateway_installer.step import Target, missing_directories

__all__ = ["inspected"]


def inspected(
    home: Home, options: InstallOptions, *, upgrading: bool = False
) -> tuple[Target, tuple[CheckResult, ...]]:
    """Return the target state of *home*, and the results of the preflight checks."""
    receipt, fault = inspect_home(home)
    try:
        target = _target(home, options, receipt)
    except MosaicError:
        if fault is not None:
            raise fault from None
        raise
    target = replace(target, home_fault=fault, host=read_host(), upgrading=upgrading)
    return target, examine_install(target)


def _target(home: Home, options: InstallOptions, receipt: Receipt | None) -> Target:
    flags = {
        "host": options.host,
        "port": options.port,
        "engine": None if options.engine == AUTO else options.engine,
        "database_url": options.database_url,
        "postgres_bin": options.postgres_bin,
        "pglite_dir": options.pglite_dir,
        "base_url": options.base_url,
    }
    if options.run_as is not None and home.broker is None:
        raise RunAsError("only root can install for another user", hint="Run without --run-as, or as root.")
    config = load_config(home, flags=flags, environ=process_environment())
    choice = _engine(config, options, receipt)
    return Target(
        config=replace(config, engine=choice.engine),
        receipt=receipt,
        accept_secret=options.accept_secret,
        engine_reason=choice.reason,
        engine_chosen=receipt is None and "engine" not in config.sources and config.postgres_bin is None,
        new_directories=missing_directories(home),
    )


def _engine(config: Config, options: InstallOptions, receipt: Receipt | None) -> EngineSelection:
    """Return the engine that is configured, else that of the existing home, else one selected for a new home."""
    if "engine" in config.sources:
        retained = receipt.engine_reason if receipt is not None and receipt.engine == config.engine else ""
        return EngineSelection(config.engine, retained or f"set by {config.sources['engine']}")
    if receipt is not None:
        return EngineSelection(EngineName(receipt.engine), receipt.engine_reason)
    postgres, node = probe_engines(config, postgres_failed=options.postgres_failed)
    return select_engine(postgres, node, postgres_bin=config.postgres_bin)
