"""``install --engine pglite`` beside Node.js, drizzle-orm and PGlite that do the same migrations from nothing.

Both begin with their packages in place and an empty directory. Ours ends with a gateway that has passed its smoke
test, the peer with the schema. Rounds take turns, and the ratio is formed within its round.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from importlib_resources import as_file, files
from measured_home import MeasuredHome

from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import install_runtime, packages_directory
from mosaic_gateway.installation.layout import Home

INTEROP = Path(__file__).parents[1] / "interop"
PEER = Path(__file__).with_name("pglite_peer.mjs")
LIMIT = 120  # seconds
Line = tuple[str, str, str]


def measure(scratch: Path, rounds: int, port: int) -> list[Line]:
    """Return what, measured value and aim; nothing where there is no Node.js or no drizzle-orm."""
    modules = Path(os.environ.get("MOSAIC_GATEWAY_TEST_INTEROP", INTEROP)) / "node_modules"
    if shutil.which("node") is None or not modules.is_dir():
        return []
    packages = _packages(scratch / "pglite-packages")
    cache = scratch / "pglite-cache"
    ours, theirs, memory = [], [], []
    for number in range(rounds + 1):
        home = MeasuredHome(
            scratch / f"pglite-{number}", port, engine="pglite",
            environ={"MOSAIC_GATEWAY_PGLITE_DIR": str(packages), "MOSAIC_GATEWAY_CACHE": str(cache)},
        )  # fmt: skip
        began = time.perf_counter()
        home.install()
        seconds = time.perf_counter() - began
        memory.append(home.memory()["database"] / 1e6)
        # Not removed: ext4 takes its time where inodes were freed just now, and nobody installs within seconds.
        home.purge() if number == rounds else home.call("stop")
        peer = _peer(scratch / f"pglite-peer-{number}", modules)
        if number:  # the first round fills the caches, and makes the template
            ours.append(seconds)
            theirs.append(peer)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    value = f"{statistics.median(ours):.2f} s = {ratio:.2f} × ({statistics.median(theirs):.2f} s)"
    what = "fresh `install --engine pglite` to smoke-tested; Node + drizzle-orm + PGlite, the same migrations"
    return [
        (what, value, "≤ 0.5 ×"),
        ("memory of PGlite after that (PSS)", f"{statistics.median(memory):.0f} MB", "≤ 200 MB"),
    ]


def _packages(directory: Path) -> Path:
    """Fetch PGlite's packages."""
    directory.mkdir()
    install_runtime(Home(directory), pglite_dir=None, shipped=shipped(), environ=os.environ)
    return packages_directory(Home(directory), shipped())


def _peer(place: Path, modules: Path) -> float:
    place.mkdir(mode=0o700)
    with as_file(files("mosaic_gateway") / "sql") as sql:
        shutil.copytree(sql, place / "sql")
    words = ["node", str(PEER), str(place / "data"), str(place / "sql" / "gateway"), str(place / "sql" / "storage")]
    environ: Mapping[str, str] = {**os.environ, "NODE_PATH": str(modules)}
    began = time.perf_counter()
    subprocess.run(words, check=True, timeout=LIMIT, env=environ, cwd="/")
    return time.perf_counter() - began
