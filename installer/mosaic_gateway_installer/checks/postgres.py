"""Checks of the engine ``postgres``: its programs, minor version, cluster, and stale postmaster.pid."""

from __future__ import annotations

from packaging.version import Version

from mosaic_gateway import fs
from mosaic_gateway.engines import ClusterMissingError, EngineBusyError, postgres
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.hint import command
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.package import summary
from mosaic_gateway_installer.program_copy.tree_writer import FilesAlteredError
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]


class OutdatedMinorError(AdviceError):
    """The package has a later minor version of PostgreSQL than the one that runs."""

    code = "POSTGRES_OUTDATED"


class StalePidFileError(AdviceError):
    """postmaster.pid names a server that is no longer running."""

    code = "STALE_PID"


def _programs(target: Target) -> str:
    runtime = postgres.find_runtime(target.home, target.config.postgres_bin)
    if target.config.postgres_bin is not None:
        return f"PostgreSQL {runtime.version} in {runtime.bindir}"
    copy = postgres.copy_of(target.home, runtime.version)
    altered = postgres.altered_files(copy)
    if altered:
        raise FilesAlteredError(
            f"{len(altered)} file(s) of {copy} are missing or were changed: {summary(altered)}",
            hint="Copy them again: " + command("install") + " (restarts the gateway).",
            details={"files": altered},
        )
    return f"PostgreSQL {runtime.version} in {runtime.bindir}, all files unchanged"


def _minor(target: Target) -> str:
    runtime = postgres.find_runtime(target.home, target.config.postgres_bin)
    newest = postgres.wheel_version() if target.config.postgres_bin is None else runtime.version
    if Version(newest) > Version(runtime.version) and Version(newest).major == Version(runtime.version).major:
        raise OutdatedMinorError(
            f"PostgreSQL {runtime.version} runs; the package has {newest}, which corrects errors of it",
            hint="Run " + command("install") + " to use it: the data stays as it is.",
            details={"version": runtime.version, "newest": newest},
        )
    return f"PostgreSQL {runtime.version}"


def _cluster(target: Target) -> str:
    cluster = postgres.cluster_of(target.home)
    if cluster is None:
        raise ClusterMissingError(
            f"there is no database cluster in {target.home.data}",
            hint="Restore it from a backup; install would create an empty one.",
        )
    return f"PostgreSQL {postgres.major_of(cluster)} cluster in {cluster}"


def _pid_file(target: Target) -> str:
    cluster = postgres.cluster_of(target.home)
    if cluster is None or postgres.running_conninfo(target.home) is not None:
        return "not stale"
    pid_file = postgres.read_pid_file(cluster)
    if pid_file is None:
        return "not stale"
    if postgres.processes_of(cluster):
        raise NotCheckedError("not checked: a server is starting, stopping, or was left by a gateway that crashed")
    raise StalePidFileError(
        f"{cluster / 'postmaster.pid'} names process {pid_file.pid}, which is not this database's server",
        hint="The next start removes it, and so does " + command("doctor", "--fix") + ".",
        details={"pid": pid_file.pid},
    )


def _remove_pid_file(target: Target, fault: MosaicError) -> str:
    cluster = postgres.cluster_of(target.home)
    lock = postgres.EngineLock(target.home)
    try:
        lock.acquire()
    except EngineBusyError as busy:  # another process is starting the server: the file is no longer stale
        raise busy from fault
    try:
        if cluster is None or postgres.processes_of(cluster):
            raise fault
        fs.remove_file(cluster / "postmaster.pid")
    finally:
        lock.release()
    return "removed postmaster.pid"


CHECKS: tuple[Check, ...] = (
    Check(id="programs", run=_programs, needs_programs=True),
    Check(id="postgres version", run=_minor, needs_programs=True),
    Check(id="cluster", run=_cluster),
    Check(id="pid file", run=_pid_file, fix=_remove_pid_file),
)
