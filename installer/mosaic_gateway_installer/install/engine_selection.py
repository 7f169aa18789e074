"""Which engine a new home gets when nobody named one: PostgreSQL where it runs, else PGlite where Node.js is there.

Chosen once, before anything is made; the receipt keeps what was chosen and why. Whether pgvector's machine code really
runs is known only after the first start: an installation that fails on it is taken back, and chooses again.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.config import Config, process_environment
from mosaic_gateway.engines.base import RuntimeMissingError, VectorMissingError
from mosaic_gateway.engines.pglite.node import Node, find_node
from mosaic_gateway.engines.postgres.cpu import VECTOR_NEEDS, this_cpu
from mosaic_gateway.engines.postgres.runtime import examine_wheel
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation.engine_name import EngineName

__all__ = ["AUTO", "EngineSelection", "NoEngineError", "probe_engines", "select_engine"]

AUTO = "auto"


class NoEngineError(PreflightError):
    """Neither PostgreSQL nor PGlite runs on this machine."""

    code = "NO_ENGINE"


@dataclass(frozen=True, slots=True)
class EngineSelection:
    """An engine, and in a sentence why it was chosen."""

    engine: EngineName
    reason: str


def select_engine(
    postgres: str | None, node: Node | PreflightError, *, postgres_bin: Path | None = None
) -> EngineSelection:
    """Return the engine. *postgres* says why PostgreSQL does not run here, None where it does.

    *node* is the Node.js that there is, or why there is none; *postgres_bin* the programs that were named, which
    settle it. Raises `NoEngineError`.
    """
    if postgres is None and postgres_bin is not None:
        return EngineSelection(EngineName.POSTGRES, f"its programs were named: {postgres_bin}")
    if postgres is None:
        return EngineSelection(EngineName.POSTGRES, "the PostgreSQL of the package runs on this machine")
    if isinstance(node, Node):
        return EngineSelection(
            EngineName.PGLITE, f"PostgreSQL does not run here: {postgres}; Node.js {node.version} does"
        )
    raise NoEngineError(
        f"No engine runs on this machine. PostgreSQL: {postgres}. PGlite: {node.message}",
        hint="Three ways out: --postgres-bin DIR with this system's PostgreSQL and pgvector; Node.js 20 or later, or"
        " pip install 'mosaic-gateway[pglite]', for PGlite; --database-url with a server elsewhere.",
        details={"postgres": postgres, "pglite": node.message},
    )


def probe_engines(config: Config, *, postgres_failed: str | None = None) -> tuple[str | None, Node | PreflightError]:
    """Return the facts of this machine for `select_engine`; *postgres_failed*: why it failed. Creates nothing."""
    postgres = postgres_failed or (None if config.postgres_bin is not None else _refusal())
    if postgres is None:
        return None, PreflightError("not looked for")
    try:
        return postgres, find_node(process_environment().get("PATH"))
    except PreflightError as error:
        return postgres, error


def _refusal(description: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return why the wheel's PostgreSQL cannot run here, as far as can be known before it is tried."""
    try:
        examine_wheel()
    except (RuntimeMissingError, VectorMissingError) as error:
        return error.message
    cpu = this_cpu(description)
    missing = VECTOR_NEEDS.get(platform.machine(), frozenset()) - cpu.flags if cpu.flags else set()
    return f"{cpu.model} lacks {', '.join(sorted(missing))}, which its pgvector needs" if missing else None
