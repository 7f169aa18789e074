"""The engine ``postgres``: its programs and its cluster."""

from __future__ import annotations

from mosaic_gateway.engines.base import ClusterMissingError
from mosaic_gateway.engines.postgres.cluster import cluster_of, major_of
from mosaic_gateway.engines.postgres.runtime import find_runtime
from mosaic_gateway_installer.checks.patient import Patient
from mosaic_gateway_installer.findings import Check

__all__ = ["CHECKS"]


def _programs(patient: Patient) -> str:
    runtime = find_runtime(patient.home, patient.config.postgres_bin, account=patient.account)
    return f"PostgreSQL {runtime.version} in {runtime.bindir}"


def _cluster(patient: Patient) -> str:
    cluster = cluster_of(patient.home)
    if cluster is None:
        raise ClusterMissingError(
            f"{patient.home.data} holds no database cluster",
            hint="Restore it from a backup; install would begin with an empty one.",
        )
    return f"PostgreSQL {major_of(cluster)} cluster in {cluster}"


CHECKS: tuple[Check[Patient], ...] = (
    Check(id="programs", run=_programs),
    Check(id="cluster", run=_cluster),
)
