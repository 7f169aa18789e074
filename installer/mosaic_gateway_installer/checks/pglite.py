"""Checks of the engine ``pglite``: its packages, Node.js, and its data."""

from __future__ import annotations

from mosaic_gateway.engines import pglite
from mosaic_gateway.hint import command
from mosaic_gateway.process import process_environment
from mosaic_gateway_installer.checks.finding import AdviceError, Check
from mosaic_gateway_installer.step import Target

__all__ = ["CHECKS"]


class NodeGoneError(AdviceError):
    """The recorded Node.js is gone or too old; each start searches PATH for another one."""

    code = "NODE_GONE"


def _programs(target: Target) -> str:
    pinned, search_path = pglite.shipped(), process_environment().get("PATH")
    runtime = pglite.find_runtime(target.home, target.config.pglite_dir, shipped=pinned, search_path=search_path)
    pglite.verify(runtime.modules, pinned)
    return f"PGlite {runtime.version} in {runtime.modules}, every file as published; Node.js {runtime.node.version}"


def _node(target: Target) -> str:
    recorded = pglite.recorded_node(target.home)
    if recorded is None:
        raise NodeGoneError(
            "the recorded Node.js is gone or too old; each start searches PATH for one, which a service may not have",
            hint="Record another one: " + command("install"),
        )
    return f"Node.js {recorded.version} in {recorded.binary}"


def _data(target: Target) -> str:
    return f"PostgreSQL {pglite.MAJOR} database in {pglite.data_of(target.home)}"


CHECKS: tuple[Check, ...] = (
    Check(id="programs", run=_programs, needs_programs=True),
    Check(id="node", run=_node, needs_programs=True),
    Check(id="cluster", run=_data),
)
