"""Upgrades of a gateway that systemd runs; see tests/installer/test_service_systemd.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.ports import free_port
from tests.support.systemd_machine import HOME, Machine

pytestmark = [pytest.mark.lifecycle, pytest.mark.root]
OLD, NEW, BAD = "0.0.9", "0.1.0", "0.3.0"


def _version_that_answers(machine: Machine, url: str) -> str:
    code = f"import urllib.request as r; print(r.urlopen('{url}/readyz', timeout=10).read().decode())"
    return str(json.loads(machine.run("python3", "-c", code))["version"])


def test_the_service_runs_the_new_version(machine: Machine, version: Callable[[str], Path]) -> None:
    """After the upgrade systemd runs the new version; after a failed one it runs the old version again."""

    def verb(name: str, *words: str) -> dict[str, Any]:
        return machine.gateway(*words, PYTHONPATH=str(version(name)))

    installed = verb(OLD, "install", "--port", str(free_port()))
    assert installed["ok"], installed["error"]
    url = installed["result"]["url"]
    assert machine.show("ActiveState") == "active"

    failed = verb(BAD, "upgrade")
    assert failed["error"]["code"] == "STATEMENT_FAILED" or not failed["ok"]
    assert f"version {OLD} serves again" in failed["error"]["message"]
    assert machine.show("ActiveState") == "active"
    assert _version_that_answers(machine, url) == OLD

    done = verb(NEW, "upgrade")
    assert done["ok"], done["error"]
    assert done["result"]["notes"] == []
    assert [step["id"] for step in done["result"]["steps"]][-4:] == ["switch", "service", "seal", "prune"]
    assert machine.show("ActiveState") == "active"
    assert _version_that_answers(machine, url) == NEW
    status = verb(NEW, "status")
    assert (status["result"]["under_service"], status["result"]["version"]) == (True, NEW)
    program = machine.run("readlink", f"/proc/{machine.show('MainPID')}/cwd").strip()
    assert program == "/"
    words = machine.file(f"/proc/{machine.show('MainPID')}/cmdline").read_bytes().split(b"\0")
    assert any(word.startswith(f"{HOME}/runtime".encode()) for word in words)
