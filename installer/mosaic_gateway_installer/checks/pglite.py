"""Checks of the engine ``pglite``: its packages, Node.js, and its data."""

from __future__ import annotations

from mosaic_gateway.cli.installed_home import Installation
from mosaic_gateway.engines.pglite.data import MAJOR, data_of
from mosaic_gateway.engines.pglite.npm_packages import verify
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import find_runtime, recorded_node
from mosaic_gateway.hint import command
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway_installer.checks.finding import AdviceError, Check

__all__ = ["CHECKS"]


class NodeGoneError(AdviceError):
    """The recorded Node.js is gone or too old; each start searches PATH for another one."""

    code = "NODE_GONE"


def _programs(installation: Installation) -> str:
    pinned, search_path = shipped(), process_environment().get("PATH")
    runtime = find_runtime(installation.home, installation.config.pglite_dir, shipped=pinned, search_path=search_path)
    verify(runtime.modules, pinned)
    return f"PGlite {runtime.version} in {runtime.modules}, every file as published; Node.js {runtime.node.version}"


def _node(installation: Installation) -> str:
    recorded = recorded_node(installation.home)
    if recorded is None:
        raise NodeGoneError(
            "the recorded Node.js is gone or too old; each start searches PATH for one, which a service may not have",
            hint="Record another one: " + command("install"),
        )
    return f"Node.js {recorded.version} in {recorded.binary}"


def _data(installation: Installation) -> str:
    return f"PostgreSQL {MAJOR} database in {data_of(installation.home)}"


CHECKS: tuple[Check[Installation], ...] = (
    Check(id="programs", run=_programs, needs_programs=True),
    Check(id="node", run=_node, needs_programs=True),
    Check(id="cluster", run=_data),
)
