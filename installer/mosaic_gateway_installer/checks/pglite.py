"""The engine ``pglite``: its packages, Node.js, and its data."""

from __future__ import annotations

from mosaic_gateway.config import process_environment
from mosaic_gateway.engines.pglite.data import MAJOR, data_of
from mosaic_gateway.engines.pglite.npm_packages import verify
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import find_runtime, recorded_node
from mosaic_gateway_installer.checks.finding import AdviceError, Check
from mosaic_gateway_installer.checks.installed_target import Installation

__all__ = ["CHECKS"]


class NodeGoneError(AdviceError):
    """The Node.js that was chosen is gone or too old; what PATH has serves instead, where there is one."""

    code = "NODE_GONE"


def _programs(installation: Installation) -> str:
    brought, search_path = shipped(), process_environment().get("PATH")
    runtime = find_runtime(installation.home, installation.config.pglite_dir, shipped=brought, search_path=search_path)
    verify(runtime.modules, brought)
    return f"PGlite {runtime.version} in {runtime.modules}, every file as published; Node.js {runtime.node.version}"


def _node(installation: Installation) -> str:
    noted = recorded_node(installation.home)
    if noted is None:
        raise NodeGoneError(
            "the Node.js that this home was to run on is gone or too old; every start looks for one on PATH, which"
            " a service may not have",
            hint="Let the home note another one: mosaic-gateway install",
        )
    return f"Node.js {noted.version} in {noted.binary}"


def _data(installation: Installation) -> str:
    return f"PostgreSQL {MAJOR} database in {data_of(installation.home)}"


CHECKS: tuple[Check[Installation], ...] = (
    Check(id="programs", run=_programs),
    Check(id="node", run=_node),
    Check(id="cluster", run=_data),
)
