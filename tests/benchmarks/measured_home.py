"""An installation that is controlled and measured through its command line and HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PASSWORD = "correct horse battery staple"
LIMIT = 300  # seconds for one command
ACCOUNT = "daemon"  # owns the homes that root installs


class MeasuredHome:
    """A home at *path* whose gateway listens on *port*."""

    def __init__(
        self, path: Path, port: int, *, engine: str | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """*environ* is added to this process's environment."""
        self._options = ["--engine", engine] if engine is not None else []
        self._environ = {**os.environ, **(environ or {})}
        self.path = path
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._instance = ""

    @staticmethod
    def command(*words: str) -> list[str]:
        """Return the argument list that runs the product's command line."""
        return [sys.executable, "-P", "-m", "mosaic_gateway_installer.cli", *words]

    def call(self, *words: str, stdin: str | None = None, package: Path | None = None) -> Any:
        """Run a verb on this home and return its result; *package* is the directory of another version."""
        environ = {**self._environ, **({"PYTHONPATH": str(package)} if package is not None else {})}
        command = self.command(*words, "--home", str(self.path), "--json")
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=LIMIT, check=False, env=environ
        )
        envelope = json.loads(done.stdout)
        if not envelope["ok"]:
            raise RuntimeError(envelope["error"])
        return envelope["result"]

    def install(self) -> None:
        """Install and start."""
        run_as = ["--run-as", ACCOUNT] if os.geteuid() == 0 else []
        options = ["--no-service", "--port", str(self.port), *run_as, *self._options]
        self._instance = self.call("install", *options)["instance_id"]

    def start_until_ready(self) -> None:
        """Start the gateway and wait until /readyz responds with status 200."""
        self.call("start")
        with urllib.request.urlopen(f"{self.url}/readyz", timeout=LIMIT) as answer:
            if answer.status != 200:
                raise RuntimeError(answer.status)

    def purge(self) -> None:
        """Remove the installation and its data."""
        self.call("uninstall", f"--purge={self._instance}")

    def create_admin(self, *, name: str, email: str) -> None:
        """Create the first admin."""
        self.call("bootstrap", "setup", "--name", name, "--email", email, "--password-stdin", stdin=PASSWORD)

    def sign_in(self, email: str) -> str:
        """Sign in and return the value of a Cookie header."""
        body = json.dumps({"email": email, "password": PASSWORD}).encode()
        request = urllib.request.Request(
            f"{self.url}/api/auth/sign-in/email", data=body, headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            cookie = "; ".join(value.split(";")[0] for value in answer.headers.get_all("set-cookie"))
        session = urllib.request.Request(f"{self.url}/api/auth/get-session", headers={"cookie": cookie})
        with urllib.request.urlopen(session, timeout=LIMIT) as answer:
            if json.load(answer)["user"]["email"] != email:  # null would be measured as a fast response
                raise RuntimeError(cookie)
        return cookie

    def load(
        self, path: str, cookie: str, *, seconds: float, connections: int = 64, rate: int = 0, url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        """Put load on *path* from another process and return the results; *url* is that of another server.

        *rate* is the number of requests a second, 0 for as many as are answered.
        """
        generator = Path(__file__).with_name("http_load.py")
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as jar:
            jar.write(cookie)
            jar.flush()
            words = ["--url", url or self.url, "--path", path, "--cookie-file", jar.name, "--seconds", str(seconds)]
            words += ["--connections", str(connections), "--rate", str(rate)]
            words += [word for name, value in (headers or {}).items() for word in ("--header", f"{name}: {value}")]
            done = subprocess.run(
                [sys.executable, generator, *words], capture_output=True, text=True, timeout=LIMIT, check=True
            )
        results = json.loads(done.stdout)
        if set(results["statuses"]) != {"200"} or results["lost_connections"]:
            raise RuntimeError(results)
        return results

    def memory(self) -> dict[str, int]:
        """Return the proportional set size in bytes of supervisor, gateway and database."""
        status = self.call("status")
        supervisor, gateway = int(status["supervisor"]), int(status["pid"])
        return {
            "supervisor": _pss(supervisor),
            "gateway": _pss(gateway),
            "database": sum(_pss(pid) for pid in _descendants(gateway)),
        }


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def _descendants(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += [int(word) for word in (task / "children").read_text().split()]
    unique = sorted(set(children))
    return unique + [descendant for child in unique for descendant in _descendants(child)]
