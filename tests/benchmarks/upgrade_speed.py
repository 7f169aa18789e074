"""An upgrade with one migration on a home of 1 GB, compared with ``cp -a`` of its data on the same disk.

Downtime is what a client sees: from the last response of the old version to the first of the new one. Each round
upgrades to a version with one more migration, so that every round does the same work.
"""

from __future__ import annotations

import http.client
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from measured_home import MeasuredHome

from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.engines.session import connect
from mosaic_gateway.installation.layout import Home

TREE = Path(__file__).resolve().parents[2]
ROWS = 130_000  # of 8 kB each
AIM = "≤ 1.3 ×"
RESPONSE_LIMIT = 0.5  # seconds


@dataclass
class Watch:
    """Polls a gateway; ``responses`` are the times at which it responded with status 200."""

    port: int
    responses: list[float] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def _poll(self) -> None:
        while not self._stop.is_set():
            opened = http.client.HTTPConnection("127.0.0.1", self.port, timeout=RESPONSE_LIMIT)
            with closing(opened) as connection, suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/api/bootstrap/status")
                if connection.getresponse().status == HTTPStatus.OK:
                    self.responses.append(time.perf_counter())
            time.sleep(0.005)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Poll for the length of the block."""
        thread = threading.Thread(target=self._poll)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    @property
    def downtime(self) -> float:
        """The longest time between two responses, in seconds."""
        return max(b - a for a, b in zip(self.responses, self.responses[1:], strict=False))


def measure(scratch: Path, rounds: int, port: int) -> list[tuple[str, str, str]]:
    """Return the rows of the table."""
    versions = [_version(scratch, number) for number in range(rounds + 1)]
    home = MeasuredHome(scratch / "upgrade", port)
    home.install()
    downtimes, wholes, floors = [], [], []
    try:
        _fill(home)
        for number, package in enumerate(versions):
            floor = _copy_time(home.path / "data", scratch / "copy")
            watch = Watch(home.port)
            start = time.perf_counter()
            with watch.running():
                home.call("upgrade", package=package)
            whole = time.perf_counter() - start
            shutil.rmtree(home.path / "backups")
            downtimes.append(watch.downtime / floor)
            wholes.append(whole / floor)
            floors.append(floor)
            summary = f"{whole:.2f} s, down {watch.downtime:.2f} s, cp -a {floor:.2f} s"
            print(f"upgrade {number}: {summary}", file=sys.stderr, flush=True)
    finally:
        home.purge()
    copy_time = f"{statistics.median(floors):.2f} s"
    what = f"`upgrade` with one migration, 1 GB of data; floor: `cp -a` of it ({copy_time})"
    return [
        (what, f"{statistics.median(wholes):.2f} × the floor", AIM),
        ("… of which downtime", f"{statistics.median(downtimes):.2f} × the floor", AIM),
    ]


def _version(scratch: Path, number: int) -> Path:
    """Install a version with *number* + 1 further migrations into a directory, and return the directory."""
    sys.path.insert(0, str(TREE))
    from tests.lifecycle.wheels import build_wheel  # noqa: PLC0415 - needs the path

    trees, wheels = scratch / f"tree-{number}", scratch / f"wheels-{number}"
    trees.mkdir()
    wheels.mkdir()
    changes = [
        (lambda tree, n=n: tree.add_migration(f"bench_{n}", f"CREATE TABLE bench_{n} (id integer PRIMARY KEY)"))
        for n in range(number + 1)
    ]
    wheel = build_wheel(trees, wheels, f"9.{number}.0", *changes)
    directory = scratch / f"version-{number}"
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]
    subprocess.run([sys.executable, *words, directory, wheel], check=True)
    return directory


def _fill(home: MeasuredHome) -> None:
    conninfo = running_conninfo(Home(home.path))
    if conninfo is None:
        raise LookupError(home.path)
    with closing(connect(conninfo, application_name="bench")) as connection:
        connection.execute("CREATE TABLE filler (id integer PRIMARY KEY, body bytea)")
        connection.execute("ALTER TABLE filler ALTER COLUMN body SET STORAGE EXTERNAL")
        body = "(SELECT string_agg(sha256((n * 1000 + m)::text::bytea), NULL) FROM generate_series(1, 245) AS m)"
        connection.execute(f"INSERT INTO filler SELECT n, {body} FROM generate_series(1, {ROWS}) AS n".encode())
        connection.execute("VACUUM filler")
        connection.execute("CHECKPOINT")


def _copy_time(source: Path, target: Path) -> float:
    """Return the seconds that ``cp -a`` takes, including the time to write to disk."""
    start = time.perf_counter()
    subprocess.run(["cp", "-a", source, target], check=True)
    subprocess.run(["sync", "-f", target], check=True)
    seconds = time.perf_counter() - start
    shutil.rmtree(target)
    return seconds
