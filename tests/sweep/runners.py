"""Client of the fork server in nursery.py: runners in separate processes, to be waited for or killed."""

from __future__ import annotations

import itertools
import json
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

FORK_SERVER = Path(__file__).with_name("nursery.py")
LIMIT = 90.0  # seconds for each answer


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a runner ended: killed, or with the tags that it applied, or with the code of its error."""

    killed: bool
    applied: tuple[str, ...] = ()
    error: str | None = None
    message: str = ""


@dataclass(slots=True)
class Runner:
    """A runner's process, whose parent is the fork server."""

    fork_server: ForkServer
    name: str
    pid: int

    def kill(self) -> End:
        """Send SIGKILL if it has not ended yet, and return how it ended."""
        return self.fork_server.end("kill", self.name)

    def wait(self) -> End:
        """Wait until it ends."""
        return self.fork_server.end("wait", self.name)


@dataclass(slots=True)
class ForkServer:
    """Starts runners. One process for several concurrent runners."""

    process: subprocess.Popen[str]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Self]:
        """Start a fork server for the block; its runners are killed with it."""
        process = subprocess.Popen(
            [sys.executable, "-P", FORK_SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        try:
            yield cls(process)
        finally:
            process.kill()
            process.communicate()

    def start(
        self, conninfo: str, bundles: Sequence[str | Path], *, mode: str = "ordinary", at: float | None = None
    ) -> Runner:
        """Start a runner over *bundles* (names or directories) that begins at the time *at*, by default at once."""
        name = str(next(self._numbers))
        job = {"do": "start", "name": name, "conninfo": conninfo, "mode": mode, "at": at}
        answer = self._request({**job, "bundles": [str(bundle) for bundle in bundles]})
        return Runner(self, name, answer["pid"])

    def end(self, how: str, name: str) -> End:
        """See `Runner.kill` and `Runner.wait`."""
        answer = self._request({"do": how, "name": name})
        if answer["code"] == -9:
            return End(killed=True)
        assert answer["code"] == 0, answer
        assert answer["error"] != "CRASH", answer["message"]
        return End(killed=False, applied=tuple(answer["applied"]), error=answer["error"], message=answer["message"])

    def _request(self, command: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], LIMIT)
        assert ready, f"the fork server did not answer {command} within {LIMIT:g} s"
        line = self.process.stdout.readline()
        assert line, "the fork server exited"
        return json.loads(line)
