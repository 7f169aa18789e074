"""The floor of an installation: the work that every installer must do, and nothing else.

It copies the same files of PostgreSQL and of the gateway, runs a durable initdb with the same options, starts the
server, runs ``psql -f`` on the same SQL, and starts Python once.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from importlib_resources import files

from mosaic_gateway.engines.postgres.runtime import install_runtime
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.program_copy.store import make_copy, wanted_copy

INITDB = ("-U", "mosaic", "-E", "UTF8", "--locale-provider=builtin", "--locale=C.UTF-8", "--auth=trust",
          "--no-instructions", "--data-checksums", "-c", "dynamic_shared_memory_type=mmap")  # fmt: skip
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}
PAUSE = 0.005  # seconds


class FloorInstall:
    """The floor of an installation in *directory*, which it creates."""

    def __init__(self, directory: Path) -> None:
        self._home = Home(directory)
        directory.mkdir(mode=0o700)

    def run(self) -> float:
        """Do the work and return the seconds that it took, without stopping the server afterwards."""
        schema = self._home.path / "schema.sql"
        schema.write_text(_all_sql())
        schema.chmod(0o644)
        start = time.perf_counter()
        _copy_program(self._home)
        bindir = install_runtime(self._home, postgres_bin=None).bindir
        data, sockets = self._home.path / "cluster", self._home.path
        self._call(bindir / "initdb", "-D", data, *INITDB)
        server = subprocess.Popen(
            [bindir / "postgres", "-D", data, "-clisten_addresses=", f"-cunix_socket_directories={sockets}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        while not _is_ready(data / "postmaster.pid"):
            time.sleep(PAUSE)
        options = ("-q", "-X", "-v", "ON_ERROR_STOP=1", "-h", sockets, "-U", "mosaic", "-d", "postgres")
        self._call(bindir / "psql", *options, "-f", schema)
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        seconds = time.perf_counter() - start
        server.send_signal(signal.SIGINT)
        server.wait(30)
        return seconds

    def _call(self, *words: str | Path) -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/", env=ENVIRONMENT)


def _copy_program(home: Home) -> None:
    wanted = wanted_copy()
    if wanted is not None:
        make_copy(home, wanted)


def _is_ready(pid_file: Path) -> bool:
    """Return whether the eighth line is ``ready`` (src/include/utils/pidfile.h); pg_isready would need a process."""
    try:
        return pid_file.read_text().splitlines()[7].strip() == "ready"
    except (OSError, IndexError):
        return False


def _all_sql() -> str:
    root = files("mosaic_gateway") / "sql"
    names = [(root / bundle / entry.name) for bundle in ("gateway", "storage") for entry in (root / bundle).iterdir()]
    scripts = sorted((path for path in names if path.name.endswith(".sql")), key=str)
    return "\n;".join(path.read_text(encoding="utf-8") for path in scripts)
