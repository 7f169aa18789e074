"""A real systemd, which runs as process 1 of separate namespaces.

Its root directory is an overlay in a tmpfs over this machine's, with which users, units and homes created by the tests
are discarded. Only root can create it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import mosaic_gateway

LIMIT = 120.0  # seconds for one command
SYSTEMD = Path("/lib/systemd/systemd")
HOME = "/var/lib/mosaic-gateway"
UNIT = "mosaic-gateway.service"
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


@contextmanager
def booted_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Boot a systemd in new namespaces for the block, and kill everything in them at its end."""
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
