"""Installations of the real thing, each in a home of its own, on a port of its own.

``make_site``   Makes a `Site`: a place to install in; whatever still runs there in the end is stopped.
``site``        A fresh one.
``installed``   One that is installed and runs, shared by a module's tests, which only read.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import pytest

from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.machine_record import read_machine_record, record_file

LIMIT = 90.0  # seconds for one command on a busy machine
END_LIMIT = 10.0  # seconds for a process that was told to end
TRAPS = Path(__file__).parent / "traps"
#: As root, whose the homes are.
ACCOUNT = "daemon" if os.geteuid() == 0 else None
OURS = ("MOSAIC_GATEWAY_", "DATABASE_URL", "BETTER_AUTH_SECRET", "INSTALLER_TRAP", "XDG_RUNTIME_DIR", "PG")
MakeSite = Callable[..., "Site"]


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @cached_property
    def envelope(self) -> dict[str, Any]:
        """The JSON object on standard output, whose form is checked."""
        value: dict[str, Any] = json.loads(self.out)
        assert set(value) == {"schema", "command", "ok", "result", "error"}
        assert value["schema"] == 1
        assert value["ok"] is (self.code == 0)
        assert value["ok"] is (value["error"] is None)
        return value

    @property
    def result(self) -> dict[str, Any]:
        """The result of a success."""
        assert self.code == 0, (self.code, self.out, self.err)
        found: dict[str, Any] = self.envelope["result"]
        return found

    @property
    def error(self) -> dict[str, Any]:
        """The error of a failure: a code in capitals, a message and a hint."""
        assert self.code != 0, self.out
        found: dict[str, Any] = self.envelope["error"]
        assert set(found) - {"details"} == {"code", "message", "hint"}
        assert found["code"] == found["code"].upper()
        assert found["message"]
        return found

    @property
    def steps(self) -> list[str]:
        """The ids of an install's steps."""
        return [step["id"] for step in self.result["steps"]]


@dataclass
class Site:
    """A home that may be installed, and its port. Where root runs the tests, it is to belong to *account_name*."""

    path: Path
    port: int
    environ: dict[str, str]
    prefix: tuple[str, ...] = ()
    run_as: bool = True
    account_name: str | None = ACCOUNT
    first: Result | None = None
    _children: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def home(self) -> Home:
        """The package's view of it."""
        record = read_machine_record(self.path)
        return Home(self.path, programs=record.programs if record is not None else None)

    @property
    def uid(self) -> int:
        """The user id of the owner."""
        return os.geteuid() if self.account_name is None else pwd.getpwnam(self.account_name).pw_uid

    @property
    def url(self) -> str:
        """Where its gateway listens."""
        return f"http://127.0.0.1:{self.port}"

    def popen(self, *words: str, trap: dict[str, Any] | None = None, **environ: str) -> subprocess.Popen[str]:
        """Start a verb of the command line on this home.

        Root's verb works in a process of the account, where a trap acts: one that only stops or interrupts is not
        seen by whoever waits for root's, and its test is skipped.
        """
        if trap is not None and self.account_name is not None and trap["act"] in {"SIGSTOP", "SIGINT", "SIGTERM"}:
            pytest.skip("not for root: the trap would act in another process")
        env = {**self.environ, **environ}
        if trap is not None:
            env["INSTALLER_TRAP"] = json.dumps(trap)
            env["PYTHONPATH"] = os.pathsep.join([str(TRAPS), *filter(None, [env.get("PYTHONPATH")])])
        argv = [*self.prefix, sys.executable, "-P", "-m", "mosaic_gateway_installer.cli", *words]
        process = subprocess.Popen(
            [*argv, "--home", str(self.path)], env=env, text=True, cwd="/", start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._children.append(process)
        return process

    def run(self, *words: str, stdin: str = "", trap: dict[str, Any] | None = None, **environ: str) -> Result:
        """Run a verb to its end."""
        return finish(self.popen(*words, trap=trap, **environ), stdin)

    def json(self, *words: str, **options: Any) -> Result:
        """Run a verb with ``--json``."""
        return self.run(*words, "--json", **options)

    def install_words(self, *more: str) -> tuple[str, ...]:
        """The arguments of a plain install here."""
        words = ["install", "--json"]
        if "--port" not in more:
            words += ["--port", str(self.port)]
        if self.account_name is not None and self.run_as and "--run-as" not in more:
            words += ["--run-as", self.account_name]
        if not {"--service", "--no-service"} & set(more):
            words.append("--no-service")  # nothing of the tests shall stay in the machine's service manager
        return (*words, *more)

    def install(self, *more: str, **options: Any) -> Result:
        """Run ``install --json``."""
        return self.run(*self.install_words(*more), **options)

    def installed(self, *more: str, **options: Any) -> dict[str, Any]:
        """Install, which must succeed, and return the result."""
        return self.install(*more, **options).result

    def receipt(self) -> dict[str, Any]:
        """The receipt's contents."""
        value: dict[str, Any] = json.loads(self.home.receipt.read_text())
        return value

    def record(self) -> dict[str, Any]:
        """The contents of root's record."""
        value: dict[str, Any] = json.loads(subprocess.run(
            [*self.prefix, "cat", str(record_file(self.path))], capture_output=True, check=True
        ).stdout)  # fmt: skip
        return value

    def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Ask the gateway."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"content-type": "application/json"}
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read() or "null")

    def processes(self) -> list[psutil.Process]:
        """Who runs with this home on the command line: supervisor, gateway, PostgreSQL, installers."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(str(self.path) in word for word in process.cmdline()) and process.pid != os.getpid():
                    found.append(process)
        return found

    def assert_nothing_runs(self) -> None:
        """Fail if anything of this home runs or listens; what is just ending may end."""
        deadline = time.monotonic() + END_LIMIT
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, [process.cmdline() for process in left]
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            while True:
                try:
                    probe.bind(("127.0.0.1", self.port))
                except OSError:  # a dying process loses its command line before its sockets
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def close(self) -> None:
        """Stop what runs, whatever happened before."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
            child.communicate()
        with suppress(OSError):
            gateway_process.stop(self.home)
        deadline = time.monotonic() + END_LIMIT
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in left:
            with suppress(psutil.Error):
                process.kill()

    def remove(self) -> None:
        """Stop what runs, and remove the home and what root has made for it elsewhere."""
        self.close()
        record = read_machine_record(self.path)
        if record is not None:
            shutil.rmtree(record.programs, ignore_errors=True)
            record_file(self.path).unlink()
        shutil.rmtree(self.path, ignore_errors=True)  # 200 MB, mostly in memory


def finish(process: subprocess.Popen[str], stdin: str = "") -> Result:
    """Wait for a command's end."""
    try:
        out, err = process.communicate(stdin, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{process.args!r} did not end:\n{out}\n{err}")
    return Result(process.returncode, out, err)


@pytest.fixture(scope="session")
def _place(scratch_root: Path) -> Callable[[], Path]:
    numbers = itertools.count(1)

    def make() -> Path:
        paths = (scratch_root / f"i{number}" for number in numbers)
        path = next(path for path in paths if not path.exists())  # tests/lifecycle counts for itself
        path.mkdir()
        path.chmod(0o700 if ACCOUNT is None else 0o755)
        return path

    return make


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Find a port on which nobody listens, below those that the kernel gives to outgoing connections."""
    chosen = random.SystemRandom()

    def find() -> int:
        while True:
            port = chosen.randrange(15000, 32000)
            with socket.socket() as probe, suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port

    return find


@pytest.fixture(scope="module")
def make_site(_place: Callable[[], Path], free_port: Callable[[], int]) -> Iterator[MakeSite]:
    """Return what makes sites: *name* is the home's path below a private directory."""
    sites: list[Site] = []
    environ = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}

    def make(
        name: str = "home", *, parent: Path | None = None, prefix: Sequence[str] = (), run_as: bool = True
    ) -> Site:
        path = (parent or _place()) / name
        site = Site(path, free_port(), environ, tuple(prefix), run_as)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.remove()


@pytest.fixture
def site(make_site: MakeSite) -> Iterator[Site]:
    """Return a fresh site, which ends with the test."""
    created = make_site()
    yield created
    created.remove()


@pytest.fixture
def scratch(scratch: Path) -> Path:
    """Return an empty directory that belongs to the owner of the homes."""
    if ACCOUNT is not None:
        shutil.chown(scratch, ACCOUNT)
    return scratch


@pytest.fixture(scope="module")
def installed(make_site: MakeSite) -> Site:
    """Return a site that is installed and runs; the module's tests leave it as it is."""
    created = make_site()
    created.first = created.install()
    assert created.first.code == 0, created.first.err
    return created


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """Return an empty directory that every account may enter."""
    with tempfile.TemporaryDirectory(prefix="mosaic-o-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
