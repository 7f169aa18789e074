"""The state of an installation and the versions that this package ships, as far as an upgrade needs them. Read-only."""

from __future__ import annotations

from contextlib import closing, suppress

import psycopg
from packaging.version import Version

from mosaic_gateway import __version__
from mosaic_gateway.config import Config
from mosaic_gateway.engines import EngineError, RuntimeMissingError, connect, engine_for, pglite, postgres
from mosaic_gateway.gateway import load_bundles, running_database, schema_digest
from mosaic_gateway.gateway.control import ProgramMissingError, current_program
from mosaic_gateway.installation import EngineName, Receipt
from mosaic_gateway.migrations import breaking, read_plan
from mosaic_gateway.process import holder_of
from mosaic_gateway_installer.program_copy.home_programs import programs_of
from mosaic_gateway_installer.upgrade.plan import UpgradeFacts

__all__ = ["upgrade_facts"]

APPLICATION = "mosaic-gateway upgrade"
#: Client ports of the sessions that gateways have opened; their application name is set in `gateway.database`.
SESSIONS = (
    "SELECT client_port FROM pg_stat_activity"
    " WHERE application_name = 'mosaic-gateway' AND datname = current_database()"
)


def upgrade_facts(config: Config, receipt: Receipt) -> UpgradeFacts:
    """Return the facts from which `plan` decides about an upgrade of *config*'s home.

    A running database is queried; a stopped embedded one is not started. Raises the migration layer's errors for
    a database that this package must not migrate, PreflightError, OSError.
    """
    home = config.home
    installed, offered = _postgres_programs(config)
    server = _server(config)
    vector, tags, other_sessions = _database(config, server)
    cluster = postgres.cluster_of(home) if config.engine is EngineName.POSTGRES else None
    return UpgradeFacts(
        installed_version=receipt.version,
        version=__version__,
        installed_schema=receipt.schema,
        schema=schema_digest(load_bundles()),
        same_program=_runs_this_program(config),
        cluster_major=postgres.major_of(cluster) if cluster is not None else None,
        programs_major=Version(offered[0]).major if offered is not None else None,
        majors=tuple(runtime.major for runtime in postgres.runtimes_of(home)),
        installed_programs=installed,
        programs=offered[0] if offered is not None else None,
        vector=vector,
        offered_vector=offered[1] if offered is not None else None,
        breaking=tags,
        other_sessions=other_sessions,
        pglite_missing=config.engine is EngineName.PGLITE
        and not pglite.is_installed(home, config.pglite_dir, shipped=pglite.shipped()),
        server_major=Version(server[1]).major if server is not None else None,
        dump_major=Version(_dump_version(config)).major if server is not None else None,
    )


def _runs_this_program(config: Config) -> bool:
    """Return whether the home runs the program that executes this code."""
    programs = programs_of(config.home)
    with suppress(ProgramMissingError):
        program = current_program(config.home)
        if program is not None:
            if programs.can_place():
                return program.directory.name == programs.find_gateway()
            return program.version == __version__
    return False


def _postgres_programs(config: Config) -> tuple[str | None, tuple[str, str] | None]:
    """Return the version of PostgreSQL in the home, and the versions of PostgreSQL and pgvector that would be used."""
    if config.engine is not EngineName.POSTGRES:
        return None, None
    installed = None
    with suppress(RuntimeMissingError):
        installed = postgres.find_runtime(config.home, config.postgres_bin).version
    if config.postgres_bin is not None:
        return installed, (installed, postgres.examine_programs(config.postgres_bin)[1]) if installed else None
    _, vector = postgres.examine_wheel()
    return installed, (postgres.wheel_version(), vector)


def _database(config: Config, server: tuple[str, str] | None) -> tuple[str | None, tuple[str, ...], int]:
    """Return pgvector's version, the pending breaking migrations, and the number of other gateways' sessions."""
    conninfo = server[0] if server is not None else running_database(config.home, config.engine)
    if conninfo is None:
        return None, (), 0
    try:
        with closing(connect(conninfo, application_name=APPLICATION)) as connection:
            pending = [entry.migration for bundle in load_bundles() for entry in read_plan(connection, bundle).pending]
            row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
            ports = [int(port or 0) for (port,) in connection.execute(SESSIONS)]
    except psycopg.Error as error:
        raise EngineError(f"the database cannot be queried: {error}", hint="Check the database server's log.") from None
    return (
        (str(row[0]) if row else None),
        breaking(pending),
        _count_foreign_sessions(config, ports) if server is not None else 0,
    )


def _server(config: Config) -> tuple[str, str] | None:
    """Return conninfo and version of the database server, None for an embedded engine."""
    if config.engine is not EngineName.SERVER:
        return None
    server = engine_for(config)
    server.start()
    return server.conninfo(), server.verify().server_version


def _dump_version(config: Config) -> str:
    if config.postgres_bin is None:
        return postgres.wheel_version()
    return postgres.find_runtime(config.home, config.postgres_bin).version


def _count_foreign_sessions(config: Config, ports: list[int]) -> int:
    """Return how many of the gateway sessions with the client *ports* belong to gateways other than this home's.

    Sessions over a Unix socket have client_port -1 and cannot be assigned to a process; while this home's gateway
    runs, they are counted as its own.
    """
    import psutil

    holder = holder_of(config.home.gateway_lock)
    own_ports: set[int] = set()
    if holder is not None:
        with suppress(psutil.Error):
            own_ports = {socket.laddr.port for socket in psutil.Process(holder.pid).net_connections(kind="tcp")}
    return len([port for port in ports if port not in own_ports and not (port < 0 and holder is not None)])
