"""A home of tests of the command line, and the verbs and requests that work on it."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from mosaic_gateway import __version__
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs.files import make_directory, write_file
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import Receipt, ReceiptState, write_receipt

LIMIT = 60.0  # seconds for one command
END_LIMIT = 15.0  # seconds for a process to exit after SIGTERM
SETTING_VARIABLES = ("MOSAIC_GATEWAY_", "DATABASE_URL", "BETTER_AUTH_SECRET", "PG", "XDG_RUNTIME_DIR")
SECRET = "a secret of at least thirty-two characters"
MakePlace = Callable[..., "Place"]


@dataclass(frozen=True, slots=True)
class Done:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A response of the gateway; of a repeated header, ``headers`` has the first."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The parsed JSON body."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Place:
    """A home, the port of its gateway, and the command line that works on it."""

    home: Home
    port: int

    def argv(self, *words: str) -> list[str]:
        """Return the command line of a verb on this home."""
        return [sys.executable, "-P", "-m", "mosaic_gateway_installer.cli", *words, "--home", str(self.home.path)]

    def environ(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return this process's environment without variables that are settings, plus *env*."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(SETTING_VARIABLES)},
            **(env or {}),
        }

    def run(self, *words: str, stdin: str | bytes = "", env: Mapping[str, str] | None = None) -> Done:
        """Run a verb and wait until it exits."""
        content = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            self.argv(*words), input=content, capture_output=True, timeout=LIMIT, check=False, cwd="/",
            env=self.environ(env),
        )  # fmt: skip
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def ask(self, *words: str, code: int = 0, **options: Any) -> dict[str, Any]:
        """Run a verb with ``--json``, check the envelope and the exit code, and return its result or error."""
        done = self.run(*words, "--json", **options)
        assert done.code == code, done
        envelope = json.loads(done.out)
        assert done.out.count("\n") == 1, "standard output is one JSON object"
        assert list(envelope) == ["schema", "command", "ok", "result", "warnings", "error"]
        assert envelope["schema"] == 1
        assert envelope["command"] == " ".join(itertools.takewhile(lambda word: not word.startswith("-"), words))
        assert envelope["ok"] == (code == 0)
        if code == 0:
            assert envelope["error"] is None
            result: dict[str, Any] = envelope["result"]
            return result
        error: dict[str, Any] = envelope["error"]
        assert set(error) - {"details"} == {"code", "message", "hint"}
        assert all(isinstance(error[key], str) for key in ("code", "message", "hint"))
        assert error["code"]
        assert error["message"]
        return error

    @contextmanager
    def popen(self, *words: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """Start a verb in the background; it is killed at the end of the block if it is still running."""
        process = subprocess.Popen(
            self.argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd="/", env=self.environ(env),
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> Answer:
        """Send a request to the gateway from a loopback *address* and return its response. Raises OSError."""
        source = (address, 0)
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, 10, source_address=source)) as connection:
            sent = {"content-type": "application/json", **(headers or {})}
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            response = connection.getresponse()
            fields = {key.lower(): value for key, value in reversed(response.getheaders())}
            return Answer(response.status, fields, response.read())

    def status_of(self, path: str) -> int:
        """Return the status code of a GET, 0 if there is no response."""
        try:
            return self.request("GET", path).status
        except (OSError, http.client.HTTPException):
            return 0

    def write(self, path: Path, text: str) -> None:
        """Write a file of the home."""
        write_file(path, text)

    def log(self) -> str:
        """Return the content of the gateway's log."""
        return self.home.gateway_log.read_text() if self.home.gateway_log.exists() else ""

    def processes(self) -> list[psutil.Process]:
        """Return the running processes of this home, including PostgreSQL's backends."""
        return [process for process in psutil.process_iter() if process.pid != os.getpid() and self._owns(process)]

    def _owns(self, process: psutil.Process) -> bool:
        home = str(self.home.path)
        with suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return any(home in word for word in process.cmdline()) or process.cwd().startswith(home)
        return False

    def postmaster(self) -> int:
        """Return the pid of the running postmaster."""
        return int(next(self.home.data.glob("*/postmaster.pid")).read_text().split("\n")[0])

    def wait_until(self, condition: Callable[[], object], limit: float = END_LIMIT) -> None:
        """Wait until *condition* returns true."""
        deadline = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < deadline, (self.log()[-2000:], [p.cmdline() for p in self.processes()])
            time.sleep(0.02)

    def assert_nothing_runs(self) -> None:
        """Fail if processes of this home are still running after `END_LIMIT`."""
        self.wait_until(lambda: not self.processes())

    def clear(self) -> None:
        """Stop the gateway, and kill remaining processes of this home."""
        with suppress(OSError, MosaicError):
            gateway_process.stop(self.home, timeout=END_LIMIT)
        for _ in range(50):
            processes = self.processes()
            if not processes:
                return
            for process in processes:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGKILL)
            time.sleep(0.05)


def write_minimal_home(place: Place, conninfo: str | None, **settings: Any) -> None:
    """Write receipt, secret and settings for the server *conninfo*; without one, there is no usable database."""
    values = {"port": place.port, "engine": "server" if conninfo else "postgres", **settings}
    if conninfo:
        values["database_url"] = conninfo
    for directory in (place.home.run, place.home.logs, place.home.secrets):
        make_directory(directory)
    receipt = Receipt(
        instance_id="0123456789abcdef", state=ReceiptState.INSTALLED, version=__version__, engine="postgres",
        created_at="2026-11-25T13:45:00+00:00", home_created=True,
    )  # fmt: skip
    write_receipt(place.home, receipt)
    write_file(place.home.auth_secret, SECRET)
    write_file(place.home.config_file, "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()))
