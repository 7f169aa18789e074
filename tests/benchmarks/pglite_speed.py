"""``install --engine pglite`` compared with Node.js, drizzle-orm and PGlite running the same migrations.

Both start with their packages present and an empty directory. The installation ends with a gateway that has passed its
smoke test, the peer with the schema. They take turns, and the ratio is computed from the times of one round.
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

from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.pglite.runtime import install_runtime, packages_directory
from mosaic_gateway.installation.layout import Home

INTEROP = Path(__file__).parents[1] / "interop"
PEER = Path(__file__).with_name("pglite_peer.mjs")
LIMIT = 120  # seconds
Line = tuple[str, str, str]


def measure(scratch: Path, rounds: int, port: int) -> list[Line]:
    """Return description, measured value and aim; nothing without Node.js or drizzle-orm."""
    modules = Path(os.environ.get("MOSAIC_GATEWAY_TEST_INTEROP", INTEROP)) / "node_modules"
    if shutil.which("node") is None or not modules.is_dir():
        return []
    packages = _packages(scratch / "pglite-packages")
    cache = scratch / "pglite-cache"
    ours, peers, memory = [], [], []
    for number in range(rounds + 1):
        home = MeasuredHome(
            scratch / f"pglite-{number}", port, engine="pglite",
            environ={"MOSAIC_GATEWAY_PGLITE_DIR": str(packages), "MOSAIC_GATEWAY_CACHE": str(cache)},
        )  # fmt: skip
        start = time.perf_counter()
        home.install()
        seconds = time.perf_counter() - start
        memory.append(home.memory()["database"] / 1e6)
        # Not removed: ext4 is slow to allocate inodes that were freed seconds before, which is not the usual case.
        home.purge() if number == rounds else home.call("stop")
        peer = _peer(scratch / f"pglite-peer-{number}", modules)
        if number:  # the first round fills the caches and creates the template
            ours.append(seconds)
            peers.append(peer)
    ratio = statistics.median(a / b for a, b in zip(ours, peers, strict=True))
    value = f"{statistics.median(ours):.2f} s = {ratio:.2f} × ({statistics.median(peers):.2f} s)"
    what = "fresh `install --engine pglite` to smoke-tested; Node + drizzle-orm + PGlite, the same migrations"
    return [
        (what, value, "≤ 0.5 ×"),
        ("memory of PGlite after that (PSS)", f"{statistics.median(memory):.0f} MB", "≤ 200 MB"),
    ]


def _packages(directory: Path) -> Path:
    """Fetch PGlite's packages and return their directory."""
    directory.mkdir()
    install_runtime(Home(directory), pglite_dir=None, shipped=shipped(), environ=os.environ)
    return packages_directory(Home(directory), shipped())


def _peer(directory: Path, modules: Path) -> float:
    directory.mkdir(mode=0o700)
    with as_file(files("mosaic_gateway") / "sql") as sql:
        shutil.copytree(sql, directory / "sql")
    sql_copy = directory / "sql"
    words = ["node", str(PEER), str(directory / "data"), str(sql_copy / "gateway"), str(sql_copy / "storage")]
    environ: Mapping[str, str] = {**os.environ, "NODE_PATH": str(modules)}
    start = time.perf_counter()
    subprocess.run(words, check=True, timeout=LIMIT, env=environ, cwd="/")
    return time.perf_counter() - start
