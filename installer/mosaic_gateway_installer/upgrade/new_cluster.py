"""Upgrade to a new major version of PostgreSQL, with ``pg_upgrade`` into a new cluster beside the old one.

Theory of operation. The new cluster is created in a temporary home below ``data``, which no other command uses. It
is started there, analyzed, and its extensions are updated. Then the rows of every table are counted and hashed; a
cluster with other rows than the old one is discarded. Renaming it to ``data/postgres-<new>`` is the one visible change,
because the newest cluster is the one that runs. The old cluster and its programs remain until
`major_version.remove_old_clusters`. Until then the upgrade can be reverted by a rename, provided that nothing has been
written since (`later_writes`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager

from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mosaic_gateway import fs
from mosaic_gateway.engines import connect, postgres
from mosaic_gateway.installation import Home
from mosaic_gateway.process import CommandFailedError, process_environment, run, runtime_directory
from mosaic_gateway_installer.backup.database_at_rest import database_at_rest
from mosaic_gateway_installer.backup.disk_space import check_free_space, size_of
from mosaic_gateway_installer.backup.row_checksums import Contents, differing_tables, table_rows
from mosaic_gateway_installer.backup.tree_copy import can_share
from mosaic_gateway_installer.step import Target
from mosaic_gateway_installer.upgrade.major_version import (
    MajorRecord,
    write_record,
)

__all__ = ["remove_unfinished_cluster", "upgrade_to_new_major"]

#: The temporary home of the new cluster: in ``data``, because the cluster is renamed from there.
STAGE = "upgrade"
FORMER_STAGE = ".upgrading"  # of version 0.1.0
STATISTICS_LIMIT = 3600.0  # seconds
MISSING_STATISTICS = 18  # first major version of vacuumdb with --missing-stats-only
APPLICATION = "mosaic-gateway upgrade"


def upgrade_to_new_major(target: Target) -> None:
    """Create the new cluster of *target*'s home, compare it with the old one, and put it in place.

    Raises `MajorUpgradeError`, `DiskFullError`, BusyError, EngineError, OSError.
    """
    home = target.home
    old = postgres.cluster_of(home)
    if old is None:
        raise postgres.MajorUpgradeError(f"{home.path} has no cluster to upgrade")
    before = postgres.find_runtime(home, None, major=postgres.major_of(old))
    after = postgres.find_runtime(home, target.config.postgres_bin)
    with _stage(home) as stage:
        if not can_share(old, stage.data):
            check_free_space(stage.path, size_of([old]), "The new cluster")
        rows, databases = _read_old_cluster(home, before)
        new = stage.data / f"postgres-{after.major}"
        transfer = postgres.Transfer.CLONE if can_share(old, stage.data) else postgres.Transfer.COPY
        sockets = postgres.socket_directory(stage)
        with database_at_rest(home):
            source = postgres.OldCluster(path=old, runtime=before, databases=databases)
            postgres.upgrade_cluster(source, new, after, sockets=sockets, transfer=transfer)
            wrong = differing_tables(rows, _complete_new_cluster(stage, after, databases))
            if wrong:
                raise postgres.MajorUpgradeError(
                    f"the upgraded cluster differs from the old one: {'; '.join(wrong[:5])}",
                    hint="The old cluster is unchanged. Please report this.",
                )
            identifiers = MajorRecord(postgres.system_identifier(old), postgres.system_identifier(new))
            write_record(home, identifiers)
            new.rename(home.data / new.name)
            fs.sync_directory(home.data)


@contextmanager
def _stage(home: Home) -> Iterator[Home]:
    """Yield an empty temporary home in the data directory of *home*, and remove it afterwards."""
    stage = Home(fs.temporary_sibling(home.data / STAGE))
    remove_unfinished_cluster(home)
    fs.make_directory(stage.data)
    fs.make_directory(stage.run)
    try:
        yield stage
    finally:
        remove_unfinished_cluster(home)


def remove_unfinished_cluster(home: Home) -> None:
    """Remove the temporary home of an upgrade that was killed; kill servers that pg_upgrade may have left running."""
    for path in (*fs.temporaries(home.data, f"{STAGE}."), home.data / FORMER_STAGE):
        if not path.exists():
            continue
        stage = Home(path)
        for cluster in stage.data.glob("postgres-*"):
            postgres.kill_processes(cluster)
        for directory in (*postgres.outside_directories(stage, runtime_directory(process_environment())), path):
            fs.remove_tree(directory)


@contextmanager
def _running(home: Home, runtime: postgres.Runtime) -> Iterator[str]:
    """Run the newest cluster of *home* inside the block, yield its conninfo, and stop it cleanly."""
    engine = postgres.EmbeddedPostgres(
        home,
        runtime,
        log=home.postgres_log,
    )
    engine.start()
    try:
        yield engine.conninfo()
    finally:
        engine.stop()


def _read_old_cluster(home: Home, runtime: postgres.Runtime) -> tuple[Contents, tuple[str, ...]]:
    """Return the old cluster's rows and the names of its databases; starting it also does any crash recovery."""
    with (
        _running(home, runtime) as conninfo,
        closing(connect(conninfo, application_name=APPLICATION)) as connection,
    ):
        return table_rows(connection), tuple(name for (name,) in connection.execute("SELECT datname FROM pg_database"))


def _complete_new_cluster(stage: Home, runtime: postgres.Runtime, databases: Collection[str]) -> Contents:
    """Drop databases not in *databases*, analyze, and update extensions, which pg_upgrade does not; return the rows."""
    with _running(stage, runtime) as conninfo:
        with closing(connect(conninfo, application_name=APPLICATION)) as connection:
            for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate").fetchall():
                if name not in databases:
                    connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        _create_statistics(conninfo, runtime)
        with closing(connect(conninfo, application_name=APPLICATION)) as connection:
            names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
        for (name,) in names:
            _update_extensions(make_conninfo(conninfo, dbname=name))
        with closing(connect(conninfo, application_name=APPLICATION)) as connection:
            return table_rows(connection)


def _create_statistics(conninfo: str, runtime: postgres.Runtime) -> None:
    server = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    words = ["-h", server["host"], "-p", server["port"], "-U", server["user"], "-w"]
    words += ["--all", "--analyze-only", "--quiet"]
    if runtime.major >= MISSING_STATISTICS:
        words.append("--missing-stats-only")
    words += ["--maintenance-db", server["dbname"]]
    try:
        run([runtime.bindir / "vacuumdb", *words], timeout=STATISTICS_LIMIT)
    except CommandFailedError as error:
        raise postgres.MajorUpgradeError(f"the upgraded cluster could not be analyzed: {error.message}") from error


def _update_extensions(conninfo: str) -> None:
    with closing(connect(conninfo, application_name=APPLICATION)) as connection:
        outdated = connection.execute(
            "SELECT name FROM pg_available_extensions WHERE installed_version <> default_version"
        ).fetchall()
        for (name,) in outdated:
            connection.execute(sql.SQL("ALTER EXTENSION {} UPDATE").format(sql.Identifier(name)))
