"""The gateway as a service of a real systemd in namespaces of its own. These tests need root."""

from __future__ import annotations

import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.ports import free_port
from tests.support.systemd_machine import HOME, UNIT, Machine

from mosaic_gateway.installation.machine_record import record_file

pytestmark = [pytest.mark.slow, pytest.mark.root]

UNIT_FILE = f"/etc/systemd/system/{UNIT}"


@pytest.fixture(scope="module")
def served(machine: Machine) -> dict[str, Any]:
    """Install as root with only the option --port."""
    return machine.result("install", "--port", str(free_port()))


def test_root_gets_a_unit_that_runs_as_the_service_account(machine: Machine, served: dict[str, Any]) -> None:
    """The unit is enabled, active, ready by sd_notify, confined, and does not run as root."""
    assert served["service"] == f"systemd, unit {UNIT}"
    assert served["setup_url"].startswith(f"{served['url']}/setup#token=")
    assert [step["id"] for step in served["steps"]][-2:] == ["service", "start"]
    assert "launch" not in {step["id"] for step in served["steps"]}
    assert machine.show("ActiveState") == "active"
    assert machine.show("UnitFileState") == "enabled"
    assert machine.show("StatusText") == f"Listening on {served['url']}"
    assert machine.show("ProtectSystem") == "strict"
    status = machine.result("status")
    assert (status["under_service"], status["supervisor"]) == (True, None)
    main = machine.show("MainPID")
    uid = machine.run("id", "-u", "mosaic-gateway").strip()
    fields = machine.file(f"/proc/{main}/status").read_text()
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in fields
    assert "NoNewPrivs:\t1" in fields
    record = json.loads(machine.file(str(record_file(Path(HOME)))).read_text())
    assert record["unit"]["name"] == UNIT
    assert machine.result("install")["steps"] == []
    assert machine.result("doctor")["findings"]


def test_the_unit_passes_verification(machine: Machine, served: dict[str, Any]) -> None:
    """systemd-analyze verify reports nothing."""
    done = machine.popen(["systemd-analyze", "verify", UNIT_FILE], None, {})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_verbs_and_logs_go_through_the_service(machine: Machine, served: dict[str, Any]) -> None:
    """stop and start use the unit; the log is in the home, where logs reads it."""
    assert machine.result("stop")["stopped"] is True
    assert machine.show("ActiveState") == "inactive"
    assert machine.gateway("status")["error"]["code"] == "NOT_READY"
    assert machine.result("start")["already_running"] is False
    assert machine.show("ActiveState") == "active"
    assert any("Listening on" in line for line in machine.result("logs")["lines"])
    assert machine.result("auth", "users", "list")["users"] == []


def test_a_killed_gateway_is_restarted(machine: Machine, served: dict[str, Any]) -> None:
    """systemd restarts it after SIGKILL."""
    before = machine.show("MainPID")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if machine.show("ActiveState") == "active" and machine.show("MainPID") not in {before, "0"}:
            break
        time.sleep(0.2)
    assert machine.result("status")["ready"] is True


def test_a_hung_gateway_is_restarted(machine: Machine, served: dict[str, Any]) -> None:
    """The watchdog restarts a gateway that does not respond, and does not restart one that does."""
    drop_in = machine.file(f"{UNIT_FILE}.d/soon.conf")
    drop_in.parent.mkdir(exist_ok=True)
    drop_in.write_text("[Service]\nWatchdogSec=4\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    before = machine.show("MainPID")
    time.sleep(6)
    assert (machine.show("MainPID"), machine.show("NRestarts")) == (before, "0")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", UNIT)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if machine.show("ActiveState") == "active" and machine.show("MainPID") not in {before, "0"}:
            break
        time.sleep(0.2)
    assert machine.show("NRestarts") == "1"
    assert machine.result("status")["ready"] is True
    drop_in.unlink()
    machine.run("systemctl", "daemon-reload")


def test_a_failed_start_reports_the_gateways_error(machine: Machine, served: dict[str, Any]) -> None:
    """The error is the gateway's and not systemd's, and systemd does not restart it."""
    machine.result("stop")
    port = int(str(served["url"]).rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        failed = machine.gateway("start")
    assert failed["error"]["code"] == "PORT_TAKEN", failed
    assert machine.show("ActiveState") in {"inactive", "failed"}
    assert machine.show("SubState") != "auto-restart"
    machine.result("start")


def test_a_disabled_service_is_repaired_by_doctor(machine: Machine, served: dict[str, Any]) -> None:
    """Doctor reports a disabled and stopped unit; --fix enables and starts it, and a second --fix does nothing."""
    machine.run("systemctl", "disable", "--now", UNIT)
    findings = machine.gateway("doctor")["result"]["findings"]
    codes = {finding["check"]: finding["code"] for finding in findings if not finding["ok"]}
    assert codes["service"] == "SERVICE_NOT_ENABLED"
    assert codes["gateway"] == "NOT_READY"
    assert set(machine.result("doctor", "--fix")["repaired"]) >= {"service", "gateway"}
    assert machine.show("UnitFileState") == "enabled"
    assert machine.result("doctor", "--fix")["repaired"] == []


def test_a_unit_edited_by_hand_is_left_unchanged(machine: Machine, served: dict[str, Any]) -> None:
    """An edited unit file stays in force; doctor names it, and removing it brings the installer's own."""
    file = machine.file(UNIT_FILE)
    written = file.read_text()
    file.write_text(written.replace("RestartSec=5", "RestartSec=7"))
    machine.run("systemctl", "daemon-reload")
    assert machine.result("install")["steps"] == []
    assert "RestartSec=7" in file.read_text()
    assert machine.show("RestartUSec") == "7s"
    codes = {one["check"]: one["code"] for one in machine.gateway("doctor")["result"]["findings"]}
    assert codes["service"] == "SERVICE_EDITED"
    file.unlink()
    assert "service" in [step["id"] for step in machine.result("install")["steps"]]
    assert file.read_text() == written
    assert machine.result("install")["steps"] == []


def test_no_service_is_recorded_and_can_be_reversed(machine: Machine, served: dict[str, Any]) -> None:
    """--no-service removes the unit and runs the gateway in the background; --service registers it again."""
    done = machine.result("install", "--no-service")
    assert done["service"] is None
    assert not machine.file(UNIT_FILE).exists()
    assert machine.result("status")["supervisor"] is not None
    assert machine.result("install")["steps"] == []
    assert machine.result("install", "--service")["service"] == f"systemd, unit {UNIT}"
    assert machine.result("status")["under_service"] is True


def test_root_ignores_a_foreign_unit_in_the_receipt(machine: Machine, served: dict[str, Any]) -> None:
    """The service account can write the receipt, so root does not stop a unit named there."""
    path = machine.file(f"{HOME}/receipt.json")
    before = path.read_text()
    machine.file("/etc/systemd/system/victim.service").write_text("[Service]\nExecStart=/bin/sleep 1000\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "victim")
    path.write_text(before.replace(UNIT, "victim.service", 1))
    machine.result("stop")
    assert machine.show("ActiveState", unit="victim.service") == "active"
    path.write_text(before)
    machine.run("systemctl", "stop", "victim")
    machine.result("start")


@pytest.fixture(scope="module")
def user(machine: Machine) -> dict[str, str]:
    """Return the environment of an ordinary user with a running systemd user manager."""
    machine.run("useradd", "--create-home", "--shell", "/bin/sh", "someone")
    uid = machine.run("id", "-u", "someone").strip()
    probe = machine.popen([sys.executable, "-P", "-c", "import mosaic_gateway_installer"], "someone", {})
    if probe.returncode != 0:
        pytest.skip("the interpreter or the package is not readable for other users")
    machine.run("install", "-d", "-m", "700", "-o", "someone", f"/run/user/{uid}")
    machine.file("/etc/systemd/system/someone.service").write_text(
        "[Service]\nUser=someone\nType=notify\nDelegate=yes\nExecStart=/lib/systemd/systemd --user\n"
        f"Environment=XDG_RUNTIME_DIR=/run/user/{uid} HOME=/home/someone\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "someone")
    return {"XDG_RUNTIME_DIR": f"/run/user/{uid}", "HOME": "/home/someone", "PYTHONDONTWRITEBYTECODE": "1"}


def test_an_ordinary_user_gets_a_user_unit(machine: Machine, user: dict[str, str]) -> None:
    """Without privileges: registered with the user's systemd, run by it, and removed by a purge."""
    port = str(free_port())
    done = machine.result("install", "--port", port, user="someone", **user)
    assert done["service"] == f"systemd, user unit {UNIT}"
    assert machine.result("status", user="someone", **user)["under_service"] is True
    show = ["systemctl", "--user", "show", "--value", "-p", "StatusText", UNIT]
    assert machine.popen(show, "someone", user).stdout.strip() == f"Listening on http://127.0.0.1:{port}"
    file = "/home/someone/.config/systemd/user/mosaic-gateway.service"
    verified = machine.popen(["systemd-analyze", "--user", "verify", file], "someone", user)
    assert (verified.returncode, verified.stderr) == (0, "")
    findings = machine.gateway("doctor", user="someone", **user)["result"]["findings"]
    assert [finding for finding in findings if finding["level"] == "fault"] == []
    identity = machine.result("status", user="someone", **user)["instance_id"]
    machine.result("uninstall", f"--purge={identity}", user="someone", **user)
    left = [path for path in machine.file("/home/someone").rglob("*mosaic*") if path.is_symlink() or path.exists()]
    assert not left


def test_uninstall_removes_the_unit_and_adoption_registers_it_again(machine: Machine, served: dict[str, Any]) -> None:
    """After a purge only the user's drop-in is left."""
    mine = machine.file(f"/etc/systemd/system/{UNIT}.d/mine.conf")
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("[Service]\nNice=1\n")
    machine.result("uninstall")
    assert not machine.file(UNIT_FILE).exists()
    assert not machine.file(f"/etc/systemd/system/multi-user.target.wants/{UNIT}").is_symlink()
    assert machine.show("LoadState") == "not-found"
    assert machine.result("install")["service"] == f"systemd, unit {UNIT}"
    receipt = json.loads(machine.file(f"{HOME}/receipt.json").read_text())
    machine.result("uninstall", f"--purge={receipt['instance_id']}")
    left = sorted(path.name for path in machine.file("/etc/systemd/system").rglob("*mosaic-gateway*"))
    assert left == ["mosaic-gateway.service.d"]
    assert mine.exists()
    assert machine.run("getent", "passwd", "mosaic-gateway", check=False) == ""
