"""doctor: every check of an installation, each with a code and what to do; reads only."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass

import psycopg

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.config import Config, EngineName, Home, load_auth_secret, load_config, process_environment
from mosaic_gateway.engines.base import ClusterMissingError, EngineError
from mosaic_gateway.engines.open import engine_for
from mosaic_gateway.engines.pglite.data import MAJOR, data_of
from mosaic_gateway.engines.pglite.packages import verify
from mosaic_gateway.engines.pglite.runtime import find_runtime as find_pglite
from mosaic_gateway.engines.pglite.shipped import shipped
from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of
from mosaic_gateway.engines.postgres.runtime import find_runtime
from mosaic_gateway.engines.session import connect
from mosaic_gateway.errors import MosaicError, PreflightError
from mosaic_gateway.gateway.control import state_of
from mosaic_gateway.gateway.opening import running_database
from mosaic_gateway.gateway.schema import load_bundles
from mosaic_gateway.migrations.runner import read_plan
from mosaic_gateway.process.account import assume, owner_of
from mosaic_gateway.process.lockfile import holder_of
from mosaic_gateway_installer.receipt import ReceiptState, read_receipt
from mosaic_gateway_installer.verbs.uninstall import installed

__all__ = ["Finding", "doctor"]


class FaultsFoundError(PreflightError):
    """The doctor found faults; the result lists them."""

    code = "FAULTS_FOUND"


class IncompleteError(PreflightError):
    """An install or uninstall did not come to its end."""

    code = "INSTALL_INCOMPLETE"


class ModeError(PreflightError):
    """A file or directory of the home is open to other users."""

    code = "HOME_MODE"


class NotRunningError(PreflightError):
    """The gateway does not run or is not ready."""

    code = "NOT_READY"


class SchemaPendingError(PreflightError):
    """Migrations are pending."""

    code = "SCHEMA_PENDING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: ``ok``, or the fault's ``code``, ``message`` and ``hint``. ``ok`` None: could not be checked."""

    check: str
    ok: bool | None
    message: str
    code: str = ""
    hint: str = ""


def doctor(home: Home) -> Outcome:
    """Check the installation in *home*. Raises `NotInstalledError`; every other fault is a finding."""
    installed(home)
    findings = [_find("settings", lambda: _settings(home))]
    if findings[0].ok:
        config = load_config(home, flags={}, environ=process_environment())
        findings += [_find(name, check) for name, check in _checks(home, config)]
    faults = [finding for finding in findings if finding.ok is False]
    error = None
    if faults:
        error = FaultsFoundError(f"{len(faults)} fault(s) found", hint="Each finding says what mends it.")
    return Outcome(
        result={"findings": [asdict(finding) for finding in findings]},
        lines=tuple(line for finding in findings for line in _lines(finding)),
        error=error,
    )


def _checks(home: Home, config: Config) -> list[tuple[str, Callable[[], str]]]:
    checks: list[tuple[str, Callable[[], str]]] = [
        ("package", _package),
        ("receipt", lambda: _receipt(home)),
        ("owner and modes", lambda: _modes(home)),
        ("secret", lambda: _secret(config)),
    ]
    if config.engine is EngineName.POSTGRES:
        checks += [("programs", lambda: _programs(home, config)), ("cluster", lambda: _cluster(home))]
    if config.engine is EngineName.PGLITE:
        checks += [("programs", lambda: _pglite(home, config)), ("database", lambda: _pglite_data(home))]
    return [*checks, ("gateway", lambda: _gateway(home)), ("schema", lambda: _schema(home, config))]


def _find(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(check=name, ok=True, message=check())
    except _UncheckedError as unknown:
        return Finding(check=name, ok=None, message=str(unknown))
    except MosaicError as fault:
        return Finding(check=name, ok=False, message=fault.message, code=fault.code, hint=fault.hint)
    except OSError as fault:
        hint = "Run doctor as the owner or root."
        return Finding(check=name, ok=False, message=str(fault), code="UNREADABLE", hint=hint)


class _UncheckedError(Exception):
    """The check needs something that is not there now."""


def _settings(home: Home) -> str:
    load_config(home, flags={}, environ=process_environment())
    return f"{home.config_file} is valid"


def _package() -> str:
    count = sum(len(bundle.migrations) for bundle in load_bundles())
    return f"{count} migrations, every hash as built"


def _receipt(home: Home) -> str:
    receipt = read_receipt(home)
    holder = holder_of(home.lock)
    if holder is not None:
        raise _UncheckedError(f"not checked: process {holder.pid} changes it ({holder.facts.get('verb')})")
    if receipt is not None and receipt.state is ReceiptState.KEPT:
        raise IncompleteError("it was uninstalled, its data is kept", hint="To take it up: mosaic-gateway install.")
    if receipt is None or receipt.state is not ReceiptState.INSTALLED or home.journal.exists():
        raise IncompleteError("an install or uninstall did not come to its end", hint="Run mosaic-gateway install.")
    return f"instance {receipt.instance_id}, version {receipt.version}"


def _modes(home: Home) -> str:
    owner_of(home.path)
    secrets = home.secrets.iterdir() if home.secrets.is_dir() else ()
    directories = (home.path, home.secrets, home.data, home.runtime, home.run, home.logs)
    for path in (
        *directories,
        *secrets,
        home.config_file,
        home.receipt,
        home.gateway_log,
        home.postgres_log,
        home.pglite_log,
    ):
        if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            right = "700" if path.is_dir() else "600"
            raise ModeError(f"{path} is open to other users", hint=f"Close it: chmod {right} {shlex.quote(str(path))}")
    return "the home is closed to other users"


def _secret(config: Config) -> str:
    load_auth_secret(config)
    return "the authentication secret is there"


def _programs(home: Home, config: Config) -> str:
    runtime = find_runtime(home, config.postgres_bin, account=owner_of(home.path))
    return f"PostgreSQL {runtime.version} in {runtime.bindir}"


def _cluster(home: Home) -> str:
    cluster = cluster_of(home)
    if cluster is None:
        raise ClusterMissingError(
            f"{home.data} holds no database cluster",
            hint="Restore it from a backup; install would begin with an empty one.",
        )
    return f"PostgreSQL {major_of(cluster)} cluster in {cluster}"


def _pglite(home: Home, config: Config) -> str:
    account, brought = owner_of(home.path), shipped()
    runtime = find_pglite(
        home, config.pglite_dir, shipped=brought, account=account, search_path=process_environment().get("PATH")
    )
    with assume(account):
        verify(runtime.modules, brought)
    return f"PGlite {runtime.version} in {runtime.modules}, every file as published; Node.js {runtime.node.version}"


def _pglite_data(home: Home) -> str:
    return f"PostgreSQL {MAJOR} database in {data_of(home)}"


def _gateway(home: Home) -> str:
    state = state_of(home)
    if not state.running:
        raise NotRunningError("the gateway does not run", hint="Start it: mosaic-gateway start")
    if not state.ready:
        raise NotRunningError(
            f"the gateway (process {state.pid}) runs but is not ready", hint="Look at its log: mosaic-gateway logs"
        )
    return f"ready at {state.url}"


def _schema(home: Home, config: Config) -> str:
    conninfo = running_database(home, config.engine)
    if config.engine is EngineName.SERVER:
        engine = engine_for(config, account=None)
        engine.start()
        engine.verify()
        conninfo = engine.conninfo()
    if conninfo is None:
        raise _UncheckedError("not checked: the database does not run")
    try:
        with connect(conninfo, application_name="mosaic-gateway doctor") as connection:
            pending = [p.migration.tag for bundle in load_bundles() for p in read_plan(connection, bundle).pending]
    except psycopg.Error as error:
        raise EngineError(
            f"the database cannot be asked: {error}", hint="Look at its log: mosaic-gateway logs"
        ) from None
    if pending:
        raise SchemaPendingError(f"pending: {', '.join(pending)}", hint="Run mosaic-gateway storage migrate.")
    return "every migration is applied"


def _lines(finding: Finding) -> list[str]:
    mark = {True: "ok     ", False: "FAULT  ", None: "-      "}[finding.ok]
    code = f" [{finding.code}]" if finding.code else ""
    lines = [f"{mark}{finding.check:<16}{code} {finding.message}"]
    return [*lines, f"       {'':<16} {finding.hint}"] if finding.hint else lines
