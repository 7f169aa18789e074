"""The engine ``pglite``: its packages, Node.js, and its data."""

from __future__ import annotations

from mosaic_gateway.config import process_environment
from mosaic_gateway.engines.pglite.data import MAJOR, data_of
from mosaic_gateway.engines.pglite.npm_packages import verify
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import find_runtime, noted_node
from mosaic_gateway_installer.checks.finding import AdviceError, Check
from mosaic_gateway_installer.checks.installed_target import Patient

__all__ = ["CHECKS"]


class NodeGoneError(AdviceError):
    """The Node.js that was chosen is gone or too old; what PATH has serves instead, where there is one."""

    code = "NODE_GONE"


def _programs(patient: Patient) -> str:
    brought, search_path = shipped(), process_environment().get("PATH")
    runtime = find_runtime(patient.home, patient.config.pglite_dir, shipped=brought, search_path=search_path)
    verify(runtime.modules, brought)
    return f"PGlite {runtime.version} in {runtime.modules}, every file as published; Node.js {runtime.node.version}"


def _node(patient: Patient) -> str:
    noted = noted_node(patient.home)
    if noted is None:
        raise NodeGoneError(
            "the Node.js that this home was to run on is gone or too old; every start looks for one on PATH, which"
            " a service may not have",
            hint="Let the home note another one: mosaic-gateway install",
        )
    return f"Node.js {noted.version} in {noted.binary}"


def _data(patient: Patient) -> str:
    return f"PostgreSQL {MAJOR} database in {data_of(patient.home)}"


CHECKS: tuple[Check[Patient], ...] = (
    Check(id="programs", run=_programs),
    Check(id="node", run=_node),
    Check(id="cluster", run=_data),
)
