"""Installs without a network and with a read-only file system outside of the home; the archive of wheels."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lifecycle.wheels import build_wheel
from tests.support.namespaces import in_namespaces
from tests.support.site import MakeSite, Site

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 600.0  # seconds
NEWER = "0.1.1"
#: A network namespace with only the loopback device.
NO_NETWORK = in_namespaces("--net", script="ip link set lo up 2>/dev/null || ifconfig lo up")
#: $0: the home. All other mounts become read-only in this mount namespace.
READ_ONLY = r"""
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
cut -d' ' -f2 /proc/self/mounts | while read -r point; do
  point=$(printf '%b' "$point")
  [ "$point" = "$0" ] || mount -o remount,bind,ro "$point" 2>/dev/null || true
done
"""


def _environ(site: Site, **more: str) -> dict[str, str]:
    """Return the environment without settings of pip's package index."""
    retained = {
        name: value for name, value in site.environ.items() if not name.startswith(("PIP_", "UV_", "PYTHONPATH"))
    }
    return {**retained, "PIP_CONFIG_FILE": os.devnull, "PYTHON": sys.executable, **more}


def _run(words: Sequence[str | Path], environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=environ, capture_output=True, text=True, timeout=LIMIT, check=False, cwd="/")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive for this interpreter, created by make-bundle.sh."""
    target = tmp_path_factory.mktemp("archive")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    environ = {**os.environ, "PYTHON": sys.executable, "PYTHONS": version}
    words: list[str | Path] = ["sh", REPOSITORY / "installer" / "make-bundle.sh", target]
    done = _run(words, environ)
    if done.returncode != 0 and "No matching distribution" in done.stderr + done.stdout:
        pytest.skip(f"no package index that has the wheels: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    created = Path(done.stdout.splitlines()[-1])
    assert created.is_file()
    return created


@pytest.fixture
def unpacked(archive: Path, site: Site) -> Iterator[Path]:
    """Return the unpacked archive, in a directory that is removed after the test."""
    with tarfile.open(archive) as content:
        names = content.getnames()
        content.extractall(site.path.parent / "unpacked", filter="data")
    assert all(name.split("/")[0] == names[0].split("/")[0] for name in names)
    directory = site.path.parent / "unpacked" / names[0].split("/")[0]
    yield directory
    shutil.rmtree(directory.parent)


@pytest.fixture
def no_network() -> tuple[str, ...]:
    """Return the command prefix that runs a command without a network."""
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    done = subprocess.run([*NO_NETWORK, sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    if "ConnectionRefusedError" not in done.stderr:
        pytest.skip("needs the privilege to create a network namespace")
    return NO_NETWORK


def _verb(site: Site, venv: Path, *words: str, prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [*prefix, venv / "bin" / "mosaic-gateway", *words, "--home", site.path]
    return _run(command, _environ(site))


def test_install_and_install_again_without_a_network(unpacked: Path, site: Site, no_network: tuple[str, ...]) -> None:
    """Environment, package, database, gateway and smoke test only use the archive; a second run changes nothing."""
    venv = site.path.parent / "venv"
    environ = _environ(site, MOSAIC_GATEWAY_VENV=str(venv))
    # Gateway and installer must share the network namespace, so both installs run in one.
    steps: list[str | Path] = [
        "sh",
        "-c",
        'sh "$0" "$@" && sh "$0" "$@"',
        unpacked / "install.sh",
        *site.install_words()[1:],
    ]
    done = _run([*no_network, *steps, "--home", site.path], environ)
    assert done.returncode == 0, (done.stdout, done.stderr)
    first, second = (json.loads(line)["result"] for line in done.stdout.splitlines() if line.startswith("{"))
    assert first["smoke_test"]["needsSetup"] is True
    assert second["steps"] == []
    identity = site.receipt()["instance_id"]
    assert _verb(site, venv, "uninstall", f"--purge={identity}").returncode == 0
    site.assert_nothing_runs()


@pytest.mark.lifecycle
def test_upgrade_without_a_network(unpacked: Path, site: Site, no_network: tuple[str, ...], tmp_path: Path) -> None:
    """``sh install.sh upgrade`` in the archive of the next version upgrades a running gateway."""
    newer = unpacked.with_name("newer")
    shutil.copytree(unpacked, newer)
    next(iter((newer / "wheels").glob("mosaic_gateway-*.whl"))).unlink()
    build_wheel(tmp_path, newer / "wheels", NEWER)
    files = (newer / "install.sh", *(newer / "wheels").iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(newer)}\n" for path in files)
    (newer / "SHA256SUMS").write_text(sums)
    venv = site.path.parent / "venv"
    environ = _environ(site, MOSAIC_GATEWAY_VENV=str(venv), MOSAIC_GATEWAY_HOME=str(site.path))
    script = (
        'sh "$0" "$@" && sh "$NEWER/install.sh" upgrade --json &&'
        ' "$MOSAIC_GATEWAY_VENV/bin/mosaic-gateway" status --json'
    )
    words: list[str | Path] = ["sh", "-c", script, unpacked / "install.sh", *site.install_words()[1:]]
    done = _run([*no_network, *words], {**environ, "NEWER": str(newer)})
    assert done.returncode == 0, (done.stdout, done.stderr)
    status = json.loads(done.stdout.splitlines()[-1])["result"]
    assert (status["version"], status["ready"]) == (NEWER, True)
    assert _verb(site, venv, "uninstall", f"--purge={site.receipt()['instance_id']}").returncode == 0
    site.assert_nothing_runs()


@pytest.mark.parametrize("damage", ["altered", pytest.param("missing", marks=pytest.mark.lifecycle)])
def test_a_damaged_archive_is_refused(unpacked: Path, site: Site, damage: str) -> None:
    """If a file differs from SHA256SUMS nothing is created."""
    victim = next(iter((unpacked / "wheels").glob("click-*.whl")))
    if damage == "altered":
        with victim.open("ab") as stream:
            stream.write(b"\0")
    else:
        victim.unlink()
    venv = site.path.parent / "venv"
    done = _run(["sh", unpacked / "install.sh", "--home", site.path], _environ(site, MOSAIC_GATEWAY_VENV=str(venv)))
    assert done.returncode == 3
    assert "damaged" in done.stderr
    assert not venv.exists()


def test_an_added_wheel_is_refused(unpacked: Path, site: Site) -> None:
    """A later version of a dependency, which pip would prefer, is named; nothing is installed."""
    name, info = "idna-99.0-py3-none-any.whl", "idna-99.0.dist-info"
    with zipfile.ZipFile(unpacked / "wheels" / name, "w") as wheel:
        wheel.writestr("idna/__init__.py", "")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: idna\nVersion: 99.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", f"idna/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    venv = site.path.parent / "venv"
    done = _run(["sh", unpacked / "install.sh", "--home", site.path], _environ(site, MOSAIC_GATEWAY_VENV=str(venv)))
    assert done.returncode == 3
    assert f"wheels/{name} is not listed in SHA256SUMS" in done.stderr
    assert not venv.exists()


@pytest.mark.lifecycle
def test_an_archive_for_other_interpreters_is_refused(unpacked: Path, site: Site) -> None:
    """Without a wheel for this Python the error names its version."""
    for path in (unpacked / "wheels").glob("psycopg_binary-*.whl"):
        path.unlink()
    lines = (unpacked / "SHA256SUMS").read_text().splitlines()
    (unpacked / "SHA256SUMS").write_text("".join(f"{line}\n" for line in lines if "psycopg_binary" not in line))
    environ = _environ(site, MOSAIC_GATEWAY_VENV=str(site.path.parent / "venv"))
    done = _run(["sh", unpacked / "install.sh", "--home", site.path], environ)
    assert done.returncode == 3
    assert "no wheels for Python" in done.stderr


def test_an_install_connects_only_to_this_machine(unpacked: Path, site: Site, tmp_path: Path) -> None:
    """Every connect(2) of every process, from the script to the gateway, is to loopback or a Unix socket."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    venv, trace = site.path.parent / "venv", tmp_path / "trace"
    environ = _environ(site, MOSAIC_GATEWAY_VENV=str(venv))
    words: list[str | Path] = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=connect,sendto,sendmsg",
        "-e",
        "signal=none",
        "-o",
        trace,
    ]
    script: list[str | Path] = ["sh", unpacked / "install.sh", *site.install_words()[1:], "--home", site.path]
    if _run([*words, "true"], environ).returncode != 0:
        pytest.skip("strace has no permission to trace here")
    # -D: the tracer is not the parent, so the script exits while the gateway that it started is still traced. No
    # pipes, which the tracer would keep open until then.
    with (tmp_path / "output").open("wb") as output:
        traced = ["strace", "-D", *words[1:], *script]
        code = subprocess.run(traced, env=environ, stdout=output, stderr=output, timeout=LIMIT, check=False).returncode
    assert code == 0, (tmp_path / "output").read_text()
    assert site.request("GET", "/api/bootstrap/status")[0] == 200
    assert _verb(site, venv, "stop").returncode == 0
    site.assert_nothing_runs()
    calls = [line for line in trace.read_text().splitlines() if "sa_family=" in line]
    assert any("sa_family=AF_UNIX" in line for line in calls)  # PostgreSQL
    assert any('inet_addr("127.0.0.1")' in line for line in calls)  # the smoke test
    allowed = re.compile(r'sa_family=AF_(UNIX|NETLINK|UNSPEC)|inet_addr\("127\.0\.0\.\d+"\)|"::1"')
    assert [line for line in calls if not allowed.search(line)] == []


def test_install_and_run_with_a_read_only_file_system(make_site: MakeSite) -> None:
    """From install to uninstall nothing outside of the home is written, not even /tmp, /run or /var."""
    site = make_site()
    site.path.mkdir(mode=0o700)
    os.chown(site.path, site.uid, -1)
    site.prefix = in_namespaces("--mount", script=READ_ONLY, argument=str(site.path))
    probe = f'touch "{site.path}/x" && rm "{site.path}/x" && ! touch /tmp/mosaic-test 2>/dev/null'
    if subprocess.run([*site.prefix, "sh", "-c", probe], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the privilege to mount")
    site.environ = {**site.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    assert site.installed()["smoke_test"]["needsSetup"] is True
    assert site.request("GET", "/api/bootstrap/status") == (200, {"needsSetup": True})
    assert site.json("doctor").code == 0
    assert site.json("restart").code == 0
    assert site.json("uninstall", f"--purge={site.receipt()['instance_id']}").code == 0
    site.assert_nothing_runs()
    assert not list(site.path.iterdir())
