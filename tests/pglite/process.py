"""A sidecar process, and connections to it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

import mosaic_gateway
from mosaic_gateway.engines.pglite.node import LONG_RUNNING

MAIN = Path(mosaic_gateway.__file__).parent / "engines" / "pglite" / "sidecar" / "main.mjs"
LIMIT = 120  # seconds
PORT = 5432
Event = dict[str, Any]
Connection = psycopg.Connection[tuple[Any, ...]]
Connect = Callable[..., Connection]
StartSidecar = Callable[..., "Sidecar"]


@dataclass(slots=True)
class Sidecar:
    """A running sidecar on *directory*/data; *events* are its reports so far."""

    directory: Path
    process: subprocess.Popen[bytes]
    events: list[Event] = field(default_factory=list)

    @classmethod
    def start(cls, directory: Path, modules: Path, *options: str, wrapper: tuple[str, ...] = ()) -> Sidecar:
        """Start a sidecar and wait for its first report; *wrapper* is a command that runs it."""
        node = shutil.which("node")
        assert node is not None
        argv = [*wrapper, node, *LONG_RUNNING, str(MAIN), "--modules", str(modules), "--data", str(directory / "data")]
        argv += ["--socket", str(directory / f".s.PGSQL.{PORT}"), *options]
        with (directory / "log").open("ab") as log:
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd="/")
        sidecar = cls(directory, process)
        sidecar.next_event()
        return sidecar

    def next_event(self) -> Event:
        """Return the next report, {} at the end of its output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        event: Event = json.loads(line) if line else {}
        self.events.append(event)
        return event

    def connect(self, **parameters: Any) -> Connection:
        """Return a new connection in autocommit mode; the caller closes it."""
        words: dict[str, Any] = {"host": str(self.directory), "port": PORT, "user": "mosaic", "dbname": "mosaic"}
        words |= {"autocommit": True, "connect_timeout": LIMIT, "sslmode": "disable"}
        return psycopg.connect(**(words | parameters))

    @property
    def node(self) -> psutil.Process:
        """The Node.js process itself, with or without a wrapper."""
        process = psutil.Process(self.process.pid)
        return process if process.name() == "node" else process.children()[0]

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        rss: int = self.node.memory_info().rss
        return rss

    def log(self) -> str:
        """Return PGlite's log."""
        return (self.directory / "log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send signal *number*; return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the exit; return the exit code. Further reports are added to *events*."""
        while self.next_event():
            pass
        return self.process.wait(LIMIT)

    def close(self) -> None:
        """Kill the process and close its pipes."""
        self.process.kill()
        self.process.wait(LIMIT)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether *condition* becomes true in time, for effects that are asynchronous."""
    ends = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def running(directory: Path, modules: Path, *options: str) -> Iterator[Sidecar]:
    """Run a sidecar on *directory* during the block."""
    sidecar = Sidecar.start(directory, modules, *options)
    try:
        yield sidecar
    finally:
        sidecar.close()
