"""A gateway process that has few descriptors."""

from __future__ import annotations

import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from tests.support.cli_home import MakePlace, Place
from tests.support.postgres_server import PostgresServer

DESCRIPTORS = 1024
MANY = 1100  # connections
STATUS = "/api/bootstrap/status"  # needs the database


@dataclass(frozen=True, slots=True)
class Limited:
    """A gateway with a limit on its descriptors, and its log."""

    place: Place
    pid: int
    log: Path

    def open_files(self) -> int:
        """Return the number of its descriptors."""
        return psutil.Process(self.pid).num_fds()

    def limit(self, descriptors: int) -> None:
        """Change its soft limit."""
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (descriptors, DESCRIPTORS))

    def seconds(self) -> float:
        """Return the processor time that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)


@pytest.fixture
def limited(make_place: MakePlace, postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Limited]:
    """A gateway whose soft limit is 256, whose hard limit is 1024."""
    place = make_place(postgres_server.conninfo(postgres_server.create_database(prefix="limits")))
    words = ["sh", "-c", f'ulimit -Sn 256 && ulimit -Hn {DESCRIPTORS} && exec "$@"', "sh", *place.argv("serve")]
    log = tmp_path / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=place.environ()) as process,
    ):
        try:
            place.wait_until(lambda: process.poll() is not None or place.status_of("/readyz") == 200, 60)
            assert process.poll() is None, log.read_text()
            yield Limited(place, process.pid, log)
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _own_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * MANY:
        pytest.skip(f"needs {2 * MANY} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * MANY), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def connections(port: int, count: int, sent: bytes = b"") -> Iterator[Callable[[], None]]:
    """Hold *count* connections, on each of which *sent* was sent; yield a function that adds one more."""
    with ExitStack() as stack:

        def add() -> None:
            connection = stack.enter_context(closing(socket.create_connection(("127.0.0.1", port), timeout=10)))
            connection.send(sent)

        for _ in range(count):
            add()
        yield add


def test_idle_connections(limited: Limited) -> None:
    """1,100 idle connections at a limit of 1024: all requests are answered, and none of it fills the log."""
    place = limited.place
    assert resource.prlimit(limited.pid, resource.RLIMIT_NOFILE) == (DESCRIPTORS, DESCRIPTORS)
    with connections(place.port, MANY):
        for path in ("/healthz", STATUS, "/readyz", "/"):
            assert place.status_of(path) == 200
        assert limited.open_files() < DESCRIPTORS - 64
    assert place.status_of(STATUS) == 200
    log = limited.log.read_text()
    assert "Traceback" not in log
    assert len(log) < 10_000


def test_busy_connections(limited: Limited) -> None:
    """Only connections with half a header: health checks are answered, all else is refused until they leave."""
    place = limited.place
    with connections(place.port, MANY, b"GET / HTTP/1.1\r\n") as add:

        def is_refused() -> bool:
            add()  # some were closed for later ones, because nothing had arrived yet
            return place.status_of(STATUS) == 503

        place.wait_until(is_refused)
        assert [place.status_of(path) for path in ("/healthz", "/readyz")] == [200, 200]
        assert limited.open_files() < DESCRIPTORS - 64
    place.wait_until(lambda: place.status_of(STATUS) == 200)
    log = limited.log.read_text()
    assert "Connection limit reached: 896 are open" in log
    assert "Traceback" not in log
    assert len(log) < 20_000


def test_no_descriptor_for_a_connection(limited: Limited) -> None:
    """When accept(2) fails for want of descriptors, this neither spins nor floods the log, and it ends."""
    place = limited.place
    limited.limit(limited.open_files() + 10)
    with connections(place.port, 60):
        time.sleep(1)
        before, size = limited.seconds(), limited.log.stat().st_size
        time.sleep(4)
        assert limited.seconds() - before < 1
        assert limited.log.stat().st_size - size < 20_000
        assert "out of system resource" in limited.log.read_text()
        limited.limit(DESCRIPTORS)
        place.wait_until(lambda: place.status_of(STATUS) == 200)
    assert place.status_of(STATUS) == 200
