"""Fixtures for the PGlite sidecar and its clients. Skipped without Node.js 20 or later.

``modules``         The node_modules directory with PGlite; in MOSAIC_GATEWAY_TEST_PGLITE if that is set (session).
``template``        A data directory created and closed by PGlite (session).
``server``          A running sidecar, shared by the tests of this process (session).
``connect``         Opens connections to it, closed after the test.
``start_sidecar``   Starts other sidecars on copies of ``template``.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from tests.pglite.process import LIMIT, MAIN, Connect, Connection, Sidecar, StartSidecar, running

NODE_NEEDED = 20
PLACE = "MOSAIC_GATEWAY_TEST_PGLITE"


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install node_modules once for all processes of this test run; return the directory."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("no node and npm on PATH")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(re.findall(r"\d+", version)[0]) < NODE_NEEDED:
        pytest.skip(f"node {NODE_NEEDED} or later is needed, not {version.strip()}")
    place = Path(os.environ.get(PLACE) or tmp_path_factory.getbasetemp().parent / "pglite-modules")
    place.mkdir(parents=True, exist_ok=True)
    lock = (MAIN.parent / "package-lock.json").read_bytes()
    done = place / "installed.json"
    with (place / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not done.is_file() or done.read_bytes() != lock:
            for name in ("package.json", "package-lock.json"):
                shutil.copy2(MAIN.parent / name, place / name)
            words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(words, cwd=place, check=True, timeout=LIMIT, capture_output=True)
            done.write_bytes(lock)
    return place / "node_modules"


@pytest.fixture(scope="session")
def template(modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data directory that PGlite created and closed."""
    directory = tmp_path_factory.mktemp("template")
    with running(directory, modules) as sidecar:
        assert sidecar.events[0]["event"] == "ready", sidecar.events
        assert sidecar.stop() == 0
    return directory / "data"


@pytest.fixture(scope="session")
def short_directory() -> Iterator[Path]:
    """Yield a directory whose path is short enough for sockets (session)."""
    with tempfile.TemporaryDirectory(prefix="pglite-") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def server(modules: Path, template: Path, short_directory: Path) -> Iterator[Sidecar]:
    """Run a sidecar."""
    directory = short_directory / "shared"
    directory.mkdir(mode=0o700)
    shutil.copytree(template, directory / "data")
    with running(directory, modules) as sidecar:
        yield sidecar
        assert sidecar.process.poll() is None, sidecar.log()


@pytest.fixture
def connect(server: Sidecar) -> Iterator[Connect]:
    """Yield a function that opens connections to ``server``."""
    with ExitStack() as stack:
        yield lambda **words: stack.enter_context(closing(server.connect(**words)))


@pytest.fixture
def connection(connect: Connect) -> Connection:
    """Return one connection to ``server``."""
    return connect()


@pytest.fixture
def start_sidecar(modules: Path, template: Path, short_directory: Path) -> Iterator[StartSidecar]:
    """Yield a function that starts sidecars with *options*, on a copy of ``template`` or on *directory*."""
    started: list[Sidecar] = []

    def start(*options: str, directory: Path | None = None, **words: Any) -> Sidecar:
        if directory is None:
            directory = Path(tempfile.mkdtemp(dir=short_directory))
            shutil.copytree(template, directory / "data")
        started.append(Sidecar.start(directory, modules, *options, **words))
        return started[-1]

    yield start
    for sidecar in started:
        if sidecar.process.poll() is None:
            sidecar.process.send_signal(signal.SIGCONT)
        sidecar.close()
        shutil.rmtree(sidecar.directory, ignore_errors=True)
