"""Selection of the engine for a new home if none was named: PostgreSQL if it runs here, else PGlite if Node.js exists.

The engine is selected once, before anything is created; the receipt records it and the reason. Whether the CPU can
execute pgvector's machine code is known only after the first start: an installation that fails on it is rolled back,
and the selection is repeated without PostgreSQL.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.config import Config
from mosaic_gateway.engines import RuntimeMissingError, VectorMissingError, pglite
from mosaic_gateway.engines.postgres import VECTOR_NEEDS, examine_wheel, this_cpu
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation import EngineName
from mosaic_gateway.process import process_environment

__all__ = ["AUTO", "EngineSelection", "NoEngineError", "probe_engines", "select_engine"]

AUTO = "auto"


class NoEngineError(PreflightError):
    """Neither PostgreSQL nor PGlite runs on this machine."""

    code = "NO_ENGINE"


@dataclass(frozen=True, slots=True)
class EngineSelection:
    """An engine, and a sentence that states why it was chosen."""

    engine: EngineName
    reason: str


def select_engine(
    postgres: str | None, node: pglite.Node | PreflightError, *, postgres_bin: Path | None = None
) -> EngineSelection:
    """Return the engine. *postgres* states why PostgreSQL does not run here, None if it does.

    *node* is the Node.js found, or the error that states why there is none. *postgres_bin* is the directory given
    with ``--postgres-bin``, which selects PostgreSQL. Raises `NoEngineError`.
    """
    if postgres is None and postgres_bin is not None:
        return EngineSelection(EngineName.POSTGRES, f"--postgres-bin is {postgres_bin}")
    if postgres is None:
        return EngineSelection(EngineName.POSTGRES, "the PostgreSQL of the package runs on this machine")
    if isinstance(node, pglite.Node):
        return EngineSelection(
            EngineName.PGLITE, f"PostgreSQL does not run here ({postgres}), and Node.js {node.version} is available"
        )
    raise NoEngineError(
        f"No engine runs on this machine. PostgreSQL: {postgres}. PGlite: {node.message}",
        hint="Do one of these: give --postgres-bin DIR with this system's PostgreSQL and pgvector; install Node.js 20"
        " or later, or pip install 'mosaic-gateway[pglite]', for PGlite; give --database-url with the URL of a server.",
        details={"postgres": postgres, "pglite": node.message},
    )


def probe_engines(
    config: Config, *, postgres_failed: str | None = None
) -> tuple[str | None, pglite.Node | PreflightError]:
    """Return the arguments for `select_engine`: why PostgreSQL does not run here, and Node.js. Creates nothing.

    *postgres_failed* is the reason why an earlier attempt with PostgreSQL failed.
    """
    postgres = postgres_failed or (None if config.postgres_bin is not None else _postgres_fault())
    if postgres is None:
        return None, PreflightError("not searched for")
    try:
        return postgres, pglite.find_node(process_environment().get("PATH"))
    except PreflightError as error:
        return postgres, error


def _postgres_fault(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """Return why the wheel's PostgreSQL cannot run here, as far as is known before it is started."""
    try:
        examine_wheel()
    except (RuntimeMissingError, VectorMissingError) as error:
        return error.message
    cpu = this_cpu(cpuinfo)
    missing = VECTOR_NEEDS.get(platform.machine(), frozenset()) - cpu.flags if cpu.flags else set()
    return f"{cpu.model} lacks {', '.join(sorted(missing))}, which its pgvector requires" if missing else None
