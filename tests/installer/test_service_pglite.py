"""A gateway on PGlite as a service of a real systemd: Node.js works in the unit's sandbox."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from tests.support.ports import free_port
from tests.support.systemd_machine import UNIT, Machine

from mosaic_gateway.engines.pglite.node import RegistryError
from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.pglite.runtime import install_runtime, packages_directory
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation.layout import Home

pytestmark = [pytest.mark.slow, pytest.mark.root]

LIMIT = 90.0  # seconds
SIDECAR = ("pgrep", "-f", "pglite-sidecar-.*main.mjs")


def _packages(machine: Machine, directory: Path) -> str:
    """Copy PGlite's packages to a directory below /home that every user in the namespaces can read."""
    home = Home(directory)
    try:
        install_runtime(home, pglite_dir=None, shipped=shipped(), environ=os.environ)
    except (PreflightError, RegistryError) as error:
        pytest.skip(f"PGlite cannot be fetched: {error.message}")
    packages = "/home/ann/pglite"
    shutil.copytree(packages_directory(home, shipped()), machine.file(packages))
    for path in (machine.file("/home/ann"), machine.file(packages), *machine.file(packages).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return packages


def test_pglite_runs_in_a_confined_service(machine: Machine, tmp_path: Path) -> None:
    """Install by root, ready by sd_notify, recovery from a killed sidecar, restart, purge."""
    words = ("--engine", "pglite", "--port", str(free_port()), "--pglite-dir", _packages(machine, tmp_path))
    done = machine.result("install", *words)
    assert done["smoke_test"]["needsSetup"] is True
    assert machine.show("ActiveState") == "active"
    assert (machine.show("ProtectSystem"), machine.show("ProtectHome")) == ("strict", "read-only")
    uid = machine.run("id", "-u", done["account"]).strip()
    sidecar, main = machine.run(*SIDECAR).strip(), machine.show("MainPID")
    assert f"Uid:\t{uid}\t{uid}" in machine.file(f"/proc/{sidecar}/status").read_text()

    machine.run("kill", "-9", sidecar)
    _await_another(machine, sidecar)
    assert machine.show("MainPID") == main
    machine.run("systemctl", "restart", UNIT)
    assert machine.gateway("doctor")["ok"], machine.gateway("doctor")
    assert machine.result("auth", "users", "list")["users"] == []
    assert machine.result("install")["steps"] == []
    machine.result("uninstall", f"--purge={done['instance_id']}")
    assert not machine.file("/var/lib/mosaic-gateway").exists()
    assert machine.run(*SIDECAR, check=False) == ""
    assert machine.show("LoadState") == "not-found"
    assert Path(machine.file("/home/ann/pglite/node_modules")).is_dir()


def _await_another(machine: Machine, sidecar: str) -> None:
    deadline = time.monotonic() + LIMIT
    while True:
        status = machine.gateway("status")
        if (
            status["ok"]
            and status["result"]["ready"]
            and machine.run(*SIDECAR, check=False).strip() not in {"", sidecar}
        ):
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.2)
