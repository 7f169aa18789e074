"""The gateway as a service of a real systemd, which runs as process 1 of separate namespaces.

Its root directory is an overlay in a tmpfs over this machine's, with which users, units and homes created by the tests
are discarded. These tests need root.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mosaic_gateway
from mosaic_gateway.installation.machine_record import record_file

pytestmark = [pytest.mark.slow, pytest.mark.root]

LIMIT = 120.0  # seconds for one command
SYSTEMD = Path("/lib/systemd/systemd")
HOME = "/var/lib/mosaic-gateway"
UNIT = "mosaic-gateway.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: $1: an empty directory; then directories of this machine to bind-mount, which may be on other file systems.
ENTER = r"""
set -e
base=$1; shift
mount --make-rprivate /
mount -t tmpfs -o mode=755 layer "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" "$base/root"
root=$base/root
for path in "$@"; do mkdir -p "$root$path"; mount --bind "$path" "$root$path"; done
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs cgroup "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd"
  mount -t cgroup -o none,name=systemd,xattr cgroup "$root/sys/fs/cgroup/systemd"
fi
mount -t tmpfs -o mode=755 run "$root/run"
rm -rf "$root"/etc/systemd/system/* "$root/var/lib/mosaic-gateway"
printf '[Unit]\nDefaultDependencies=no\n' > "$root/etc/systemd/system/mosaic-test.target"
: > "$root/etc/fstab"
for file in passwd group shadow gshadow; do
  if [ -e "$root/etc/$file" ]; then sed -i 's/^mosaic-gateway:/other-gateway:/' "$root/etc/$file"; fi
done
chmod 755 "$root/root"
cd "$root"
mkdir -p .old
pivot_root . .old
umount -l /.old
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=mosaic-test \
  /lib/systemd/systemd --system --unit=mosaic-test.target --log-target=null --show-status=no
"""


Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Machine:
    """Namespaces with a systemd as process 1; *pid* is its pid outside of them."""

    pid: int
    environ: dict[str, str]

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command as root in the namespaces and return its output."""
        done = self.popen(words, None, {})
        assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def popen(
        self, words: Sequence[str], user: str | None, environ: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespaces and wait until it exits."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--cgroup", "--"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user is not None else []
        return subprocess.run(
            [*enter, *become, *words], env={**self.environ, **environ}, capture_output=True, text=True,
            timeout=LIMIT, check=False, stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    def gateway(self, *words: str, user: str | None = None, **environ: str) -> dict[str, Any]:
        """Run a verb with ``--json`` and return the envelope."""
        command = [sys.executable, "-P", "-m", "mosaic_gateway_installer.cli", *words, "--json"]
        done = self.popen(command, user, environ)
        assert done.stdout, done.stderr
        envelope: dict[str, Any] = json.loads(done.stdout)
        return envelope

    def result(self, *words: str, user: str | None = None, **environ: str) -> dict[str, Any]:
        """Run a verb, which must succeed, and return its result."""
        envelope = self.gateway(*words, user=user, **environ)
        assert envelope["ok"], (envelope["error"], envelope["result"])
        result: dict[str, Any] = envelope["result"]
        return result

    def file(self, path: str) -> Path:
        """Return the path of a file in the namespaces as seen from outside."""
        return Path(f"/proc/{self.pid}/root{path}")

    def show(self, name: str, *, unit: str = UNIT) -> str:
        """Return a property of the unit (``systemctl show``)."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()


def _own_group() -> Iterator[Path]:
    """Create and yield a directory in each cgroup hierarchy for the namespaces."""
    root = Path("/sys/fs/cgroup")
    tops = [root] if (root / "cgroup.procs").exists() else [path.parent for path in root.glob("*/cgroup.procs")]
    for top in tops:
        with suppress(OSError):
            group = top / f"mosaic-test-{os.getpid()}"
            group.mkdir()
            if (group / "cpuset.cpus").exists() and not (top / "cgroup.controllers").exists():
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (group / name).write_text((top / name).read_text())
            yield group


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Boot a systemd in new namespaces, and kill everything in them at the end."""
    if not SYSTEMD.exists() or shutil.which("systemctl") is None:
        pytest.skip("needs Debian's package systemd")
    package = Path(mosaic_gateway.__file__).parents[1]
    visible = {str(path.resolve()) for path in (package, package.parent / "installer", Path(sys.prefix))}
    visible = {path for path in {*visible, sys.base_prefix} if Path(path).is_dir()}
    groups = list(_own_group())
    join = "".join(f'echo $$ > "{group}/cgroup.procs" && ' for group in groups)
    words = ["unshare", "--pid", "--fork", "--mount", "--cgroup", "--kill-child", "sh", "-c", ENTER, "sh"]
    outer = ["sh", "-c", f'{join}exec "$@"', "sh", *words, str(tmp_path_factory.mktemp("systemd")), *sorted(visible)]
    log = tmp_path_factory.mktemp("log") / "boot"
    environ = {"PATH": PATH, "LC_ALL": "C.UTF-8"}
    with (
        log.open("wb") as stream,
        subprocess.Popen(outer, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream) as boot,
    ):
        try:
            yield _booted(boot, environ, log)
        finally:
            boot.send_signal(signal.SIGKILL)
            boot.wait()
            _remove(groups)


def _booted(boot: subprocess.Popen[bytes], environ: dict[str, str], log: Path) -> Machine:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and boot.poll() is None:
        children = Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().split()
        if children:
            machine = Machine(int(children[0]), environ)
            if machine.run("systemctl", "is-system-running", check=False).strip() in {"running", "degraded"}:
                return machine
        time.sleep(0.1)
    pytest.skip(f"systemd cannot run here: {log.read_text(errors='replace')[-500:]}")


def _remove(groups: list[Path]) -> None:
    deadline = time.monotonic() + 10
    left = [path for group in groups for path in (*sorted(group.rglob("*/"), reverse=True), group) if path.is_dir()]
    while left and time.monotonic() < deadline:
        for path in list(left):
            with suppress(OSError):
                path.rmdir()
            if not path.exists():
                left.remove(path)
        time.sleep(0.05)


@pytest.fixture(scope="module")
def served(machine: Machine, free_port: Any) -> dict[str, Any]:
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


def test_an_ordinary_user_gets_a_user_unit(machine: Machine, user: dict[str, str], free_port: Any) -> None:
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
