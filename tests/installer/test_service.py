"""The service unit: its settings, its mark, edits by the user, and the commands for the service manager."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.site import Site

from mosaic_gateway.fs.record_fields import RecordError
from mosaic_gateway.gateway.control.service import is_for_home, start_commands, stop_commands
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.service_record import Manager, Service
from mosaic_gateway.process.account import account_of, interpreter_closed_to
from mosaic_gateway_installer.service.manager_selection import available_manager, can_confine, unit_name
from mosaic_gateway_installer.service.registry import UnitForeignError, is_in_place, register, unregister
from mosaic_gateway_installer.service.unit_file import UnitFacts, is_unchanged, launchd_job, systemd_unit

HOME = Home(Path("/srv/a gateway 100%"))
UNIT = Service(manager=Manager.SYSTEMD, name="mosaic-gateway.service")
MACHINES = UnitFacts(
    service=UNIT, home=HOME, program=HOME.path / "run it", interpreter=Path("/usr/bin/python3"), account="someone"
)
USERS = replace(MACHINES, account=None, service=replace(UNIT, manager=Manager.SYSTEMD_USER))


def test_paths_are_quoted_for_systemd() -> None:
    """A path with spaces is one word, and percent signs are escaped."""
    lines = systemd_unit(MACHINES).splitlines()
    path = "/srv/a gateway 100%%"
    assert f'ExecStart="{path}/run it" serve --service --home "{path}"' in lines
    assert f'ReadWritePaths="{path}"' in lines


@pytest.mark.parametrize(
    ("facts", "present", "absent"),
    [
        (
            MACHINES,
            {"User=someone", "ProtectSystem=strict", "PrivateTmp=yes", "NoNewPrivileges=yes", "ProtectHome=yes",
             "CapabilityBoundingSet=", "Type=notify", "LimitNOFILE=10240", "Restart=on-failure",
             "WantedBy=multi-user.target"},
            {"AmbientCapabilities=CAP_NET_BIND_SERVICE"},
        ),
        (
            USERS,
            {"ProtectSystem=strict", "PrivateTmp=yes", "NoNewPrivileges=yes", "LimitNOFILE=10240",
             "WantedBy=default.target"},
            {"User=someone", "PrivateDevices=yes", "CapabilityBoundingSet=", "ProtectHome=yes"},
        ),
        (replace(MACHINES, privileged_port=True), {"AmbientCapabilities=CAP_NET_BIND_SERVICE"}, set()),
        (replace(MACHINES, reads_homes=True), {"ProtectHome=read-only"}, {"ProtectHome=yes"}),
        (replace(MACHINES, interpreter=Path("/root/python")), {"ProtectHome=read-only"}, {"ProtectHome=yes"}),
        (replace(MACHINES, waits_for_network=True), {"Wants=network-online.target"}, {"After=network.target"}),
        (replace(MACHINES, outside=Path("/tmp")), {'ReadWritePaths="/tmp"'}, {"PrivateTmp=yes"}),  # noqa: S108 - a name, nothing is created
        (
            replace(MACHINES, service=replace(UNIT, confined=False)),
            {"NoNewPrivileges=yes"},
            {"ProtectSystem=strict", "PrivateTmp=yes", "PrivateDevices=yes"},
        ),
    ],
    ids=["machine", "user", "port 80", "node elsewhere", "python elsewhere", "server", "long path", "no namespaces"],
)  # fmt: skip
def test_settings_of_a_unit(facts: UnitFacts, present: set[str], absent: set[str]) -> None:
    """The unit contains the required settings, and none that would prevent the gateway from working."""
    lines = set(systemd_unit(facts).splitlines())
    assert present <= lines
    assert not absent & lines


@pytest.mark.parametrize("facts", [MACHINES, USERS], ids=["machine", "user"])
def test_systemd_finds_no_fault(facts: UnitFacts, tmp_path: Path) -> None:
    """systemd-analyze verify reports nothing, with spaces and percent signs in every path."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs Debian's package systemd")
    program = tmp_path / "a 100% gateway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    account = "daemon" if facts.account is not None else None
    unit = tmp_path / "mosaic-gateway.service"
    unit.write_text(systemd_unit(replace(facts, program=program, home=Home(tmp_path), account=account)))
    scope = "--user" if account is None else "--system"
    words = ["systemd-analyze", scope, "verify", str(unit)]
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_launchd_job_is_a_property_list_with_its_marks() -> None:
    """The job starts at load and after a failure, not after a stop; hyphens in a path do not end the comment."""
    home = Home(Path("/Users/me/a -- home"))
    facts = replace(MACHINES, home=home, service=Service(manager=Manager.LAUNCHD, name="org.mosaic-gateway"))
    text = launchd_job(facts)
    job = plistlib.loads(text.encode())
    assert job["ProgramArguments"][1:] == ["serve", "--service", "--home", str(home.path)]
    assert (job["RunAtLoad"], job["KeepAlive"], job["UserName"]) == (True, {"SuccessfulExit": False}, "someone")
    assert is_unchanged(text)
    assert is_for_home(text, home)
    comment = text[text.index("<!--") + 4 : text.index("-->")]
    assert "--" not in comment


def test_a_unit_is_identified_by_its_home_and_an_edit_by_its_hash() -> None:
    """A unit of another home is not accepted; a single changed character is detected."""
    text = systemd_unit(MACHINES)
    assert is_for_home(text, HOME)
    assert not is_for_home(text, Home(Path("/srv/a gateway")))
    assert is_unchanged(text)
    assert not is_unchanged(text.replace("RestartSec=5", "RestartSec=6"))
    assert not is_unchanged("[Service]\nExecStart=/bin/true\n")


@pytest.mark.parametrize("name", ["ssh.service", "-f", "mosaic-gateway.service/../x", "mosaic-gateway-xyz.service"])
def test_a_foreign_unit_name_in_the_receipt_is_refused(name: str) -> None:
    """Unit names in a receipt are validated, because any process of the home's owner can write it."""
    with pytest.raises(RecordError, match=r"'name' of receipt\.json"):
        Service.from_dict({"manager": "systemd", "name": name, "confined": True, "text": ""}, Path("receipt.json"))


def test_unit_names_differ_between_homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The name for the default home is the plain one; for other homes it contains a part of the id."""
    monkeypatch.setattr("mosaic_gateway_installer.service.manager_selection.default_home", lambda _environ: HOME.path)
    assert unit_name(Manager.SYSTEMD, HOME, "0123456789abcdef") == "mosaic-gateway.service"
    assert unit_name(Manager.SYSTEMD, Home(tmp_path), "0123456789abcdef") == "mosaic-gateway-01234567.service"
    assert unit_name(Manager.LAUNCHD_AGENT, Home(tmp_path), "0123456789abcdef") == "org.mosaic-gateway.01234567"


def test_commands_for_the_service_managers() -> None:
    """Start and stop commands for systemd and launchd."""
    assert start_commands(UNIT) == [("systemctl", "start", "mosaic-gateway.service")]
    assert stop_commands(replace(UNIT, manager=Manager.SYSTEMD_USER))[0][:3] == ("systemctl", "--user", "stop")
    agent = Service(manager=Manager.LAUNCHD_AGENT, name="org.mosaic-gateway")
    assert start_commands(agent)[-1] == ("launchctl", "kickstart", f"gui/{os.getuid()}/org.mosaic-gateway")


@pytest.fixture
def false_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a systemctl first in PATH that records its calls and prints the content of the file ``output``."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "output").write_text("running\n")
    for name in ("systemctl", "systemd-run"):
        (tools / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{tools}/calls"\ncat "{tools}/output"\n')
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return tools


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd is Linux's")
@pytest.mark.parametrize(
    ("output", "available"),
    [("running", True), ("degraded", True), ("starting", True), ("offline", False), ("unknown", False), ("", False)],
)
def test_systemd_is_selected_if_it_is_running(false_systemctl: Path, output: str, available: bool) -> None:
    """The output of is-system-running decides, not whether systemctl is installed."""
    (false_systemctl / "output").write_text(f"{output}\n")
    selection = available_manager(None)
    assert (selection.manager is not None) is available
    assert bool(selection.reason) is not available
    if available:
        assert selection.manager is Manager.SYSTEMD_USER


def test_support_for_confinement_is_detected(false_systemctl: Path) -> None:
    """Only the exit code for failed namespaces disables confinement; other failures do not."""
    assert can_confine(UNIT, HOME) is True
    assert "ProtectSystem=strict" in (false_systemctl / "calls").read_text()
    for code, confined in ((226, False), (1, True)):
        (false_systemctl / "systemd-run").write_text(f"#!/bin/sh\nexit {code}\n")
        assert can_confine(UNIT, HOME) is confined


@pytest.fixture
def users_unit(false_systemctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Service, Home]:
    """Return a user unit whose file is below ``tmp_path``, and its home."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    home = Home(tmp_path)
    service = Service(manager=Manager.SYSTEMD_USER, name="mosaic-gateway-01234567.service")
    facts = replace(USERS, service=service, home=home)
    return replace(service, text=systemd_unit(facts)), home


def test_a_unit_is_registered_and_unregistered(users_unit: tuple[Service, Home], false_systemctl: Path) -> None:
    """The unit is written, reloaded and enabled; later an unchanged file is removed, an edited one is renamed."""
    service, home = users_unit
    assert not is_in_place(service, home)
    assert register(service, home) == []
    assert is_in_place(service, home)
    calls = (false_systemctl / "calls").read_text().splitlines()
    assert calls == ["systemctl --user daemon-reload", f"systemctl --user enable {service.name}"]
    assert unregister(service, home) == []
    assert not service.file.exists()
    register(service, home)
    service.file.write_text(service.text.replace("UMask=0077", "UMask=0027"))
    summary = unregister(service, home)
    assert [path.name for path in service.file.parent.iterdir()] == [f"{service.name}.changed-by-hand"]
    assert "changed-by-hand" in summary[0]


@pytest.mark.parametrize(
    ("old", "new"), [("PrivateTmp=yes\n", ""), ("RestartSec=5\n", "RestartSec=9\n")], ids=["removed", "changed"]
)
def test_a_unit_edited_by_hand_is_left_unchanged(users_unit: tuple[Service, Home], old: str, new: str) -> None:
    """The edited file stays as it is, the user is informed, and a second install has nothing to do."""
    service, home = users_unit
    register(service, home)
    changed = service.text.replace(old, new)
    assert changed != service.text
    service.file.write_text(changed)
    assert is_in_place(service, home)
    notes = register(replace(service, text=service.text.replace("RestartSec=5", "RestartSec=4")), home)
    assert service.file.read_text() == changed
    assert "left unchanged" in str(notes[0])
    assert not service.file.with_name(f"{service.name}.d").exists()


def test_a_later_version_s_unit_replaces_an_unchanged_one(users_unit: tuple[Service, Home]) -> None:
    """Differences between versions are not regarded as edits by the user."""
    service, home = users_unit
    register(service, home)
    later = replace(service, text=systemd_unit(replace(USERS, service=service, home=home, waits_for_network=False,
                                                       outside=Path("/run/x"))))  # fmt: skip
    assert register(later, home) == []
    assert service.file.read_text() == later.text
    assert not service.file.with_name(f"{service.name}.d").exists()


def test_a_foreign_unit_of_that_name_is_refused(users_unit: tuple[Service, Home]) -> None:
    """A file of another program is neither replaced nor removed."""
    service, home = users_unit
    service.file.parent.mkdir(parents=True)
    service.file.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(UnitForeignError):
        register(service, home)
    assert unregister(service, home) == []
    assert service.file.read_text() == "[Service]\nExecStart=/bin/true\n"


def test_the_running_interpreter_is_accessible_to_its_user() -> None:
    """The user of this process has access to all parent directories of the interpreter."""
    account = account_of(os.geteuid())
    assert account is not None
    assert interpreter_closed_to(account) is None


def test_a_requested_service_without_a_manager_is_an_error(site: Site, tmp_path: Path) -> None:
    """With --service and without a service manager nothing is created."""
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho offline\n")
    (tmp_path / "systemctl").chmod(0o755)
    tmp_path.chmod(0o755)
    done = site.install("--service", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.code, done.error["code"]) == (3, "SERVICE_UNAVAILABLE")
    assert not site.path.exists()


@pytest.mark.slow
def test_status_reports_that_there_is_no_service(installed: Site) -> None:
    """Without a service, status says what to do after the machine restarts."""
    done = installed.run("status")
    assert "service   none; after a reboot" in done.out
    assert installed.json("status").result["service"] is None
