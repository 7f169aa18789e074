"""A home to install into, with a port of its own, and the command line that works on it."""

from __future__ import annotations

import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
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
END_LIMIT = 10.0  # seconds for a process to exit after a signal
TRAPS = Path(__file__).parent / "traps"
#: The account that owns the homes if root runs the tests.
ACCOUNT = "daemon" if os.geteuid() == 0 else None
OWN_VARIABLES = ("MOSAIC_GATEWAY_", "DATABASE_URL", "BETTER_AUTH_SECRET", "INSTALLER_TRAP", "XDG_RUNTIME_DIR", "PG")
MakeSite = Callable[..., "Site"]


@dataclass(frozen=True)
class Result:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @cached_property
    def envelope(self) -> dict[str, Any]:
        """The JSON object on standard output, whose format is checked."""
        value: dict[str, Any] = json.loads(self.out)
        # Version 0.1.0, which tests of upgrades run as well, had no warnings.
        assert set(value) | {"warnings"} == {"schema", "command", "ok", "result", "warnings", "error"}
        assert value["schema"] == 1
        assert value["ok"] is (self.code == 0)
        assert value["ok"] is (value["error"] is None)
        return value

    @property
    def result(self) -> dict[str, Any]:
        """The result of a success."""
        assert self.code == 0, (self.code, self.out, self.err)
        result: dict[str, Any] = self.envelope["result"]
        return result

    @property
    def error(self) -> dict[str, Any]:
        """The error of a failure: a code in capitals, a message and a hint."""
        assert self.code != 0, self.out
        error: dict[str, Any] = self.envelope["error"]
        assert set(error) - {"details"} == {"code", "message", "hint"}
        assert error["code"] == error["code"].upper()
        assert error["message"]
        return error

    @property
    def steps(self) -> list[str]:
        """The ids of an install's steps."""
        return [step["id"] for step in self.result["steps"]]


@dataclass
class Site:
    """A home to install into, and its port. If root runs the tests, *account_name* owns the home."""

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
        """The paths of the home."""
        record = read_machine_record(self.path)
        return Home(self.path, programs=record.programs if record is not None else None)

    @property
    def uid(self) -> int:
        """The user id of the owner."""
        return os.geteuid() if self.account_name is None else pwd.getpwnam(self.account_name).pw_uid

    @property
    def url(self) -> str:
        """The URL of its gateway."""
        return f"http://127.0.0.1:{self.port}"

    def popen(self, *words: str, trap: dict[str, Any] | None = None, **environ: str) -> subprocess.Popen[str]:
        """Start a verb of the command line on this home.

        A verb started by root runs in a process of the account, and the trap acts on that process. A test whose trap
        stops or interrupts it is skipped, because the test only waits for root's process.
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
        """Run a verb and wait until it exits."""
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
            words.append("--no-service")  # tests must not leave units in the machine's service manager
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
        """Send a request to the gateway."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(
                method, path, None if body is None else json.dumps(body), {"content-type": "application/json"}
            )
            response = connection.getresponse()
            return response.status, json.loads(response.read() or "null")

    def processes(self) -> list[psutil.Process]:
        """The processes with this home on their command line: supervisor, gateway, PostgreSQL, installers."""
        processes = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(str(self.path) in word for word in process.cmdline()) and process.pid != os.getpid():
                    processes.append(process)
        return processes

    def assert_nothing_runs(self) -> None:
        """Wait up to `END_LIMIT` for processes of this home to exit, and fail if one still runs or listens."""
        deadline = time.monotonic() + END_LIMIT
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left, [process.cmdline() for process in left]
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            while True:
                try:
                    probe.bind(("127.0.0.1", self.port))
                except OSError:  # an exiting process loses its command line before its sockets
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(0.02)
                else:
                    return

    def close(self) -> None:
        """Stop all processes of this home."""
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
        """Stop all processes, and remove the home and what root created for it elsewhere."""
        self.close()
        record = read_machine_record(self.path)
        if record is not None:
            shutil.rmtree(record.programs, ignore_errors=True)
            record_file(self.path).unlink()
        shutil.rmtree(self.path, ignore_errors=True)  # 200 MB, often in a tmpfs


def finish(process: subprocess.Popen[str], stdin: str = "") -> Result:
    """Wait until the command exits."""
    try:
        out, err = process.communicate(stdin, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"{process.args!r} did not end:\n{out}\n{err}")
    return Result(process.returncode, out, err)


def assert_no_leftovers(site: Site) -> None:
    """Fail if a verb has left files in the home of a serving site that has backups."""
    names = {path.name for path in site.path.iterdir()}
    expected = {".lock", "backups", "bin", "config.toml", "data", "logs", "receipt.json", "run", "runtime", "secrets"}
    assert names == expected
    assert not site.home.journal.exists()


def environ_without_settings() -> dict[str, str]:
    """Return this process's environment without the variables that are settings of a gateway."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}


def make_private(path: Path) -> Path:
    """Create the directory *path*, which only the owner of the homes enters, and return it."""
    path.mkdir()
    path.chmod(0o700 if ACCOUNT is None else 0o755)
    return path
