"""The checks before an installation, under real conditions. None of them creates anything."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.support.namespaces import in_namespaces
from tests.support.site import MakeSite, Result, Site

from mosaic_gateway_installer.checks.preflight.run import CHECKS

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.slow

MEGABYTE = 1024**2


def _checks(done: Result) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in done.envelope["result"]["checks"]}


def _refused_on(make_site: MakeSite, options: str) -> Result:
    """Install on a tmpfs with mount *options*, which must be empty afterwards."""
    site = make_site("disk/home")
    disk = site.path.parent
    disk.mkdir()
    mounted = in_namespaces("--mount", script=f'mount -t tmpfs -o mode=755,{options} none "$0"', argument=str(disk))
    if subprocess.run([*mounted, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    site.prefix = (*mounted, "sh", "-c", '"$@"; code=$?; [ -z "$(ls -A "$0")" ] || exit 99; exit $code', str(disk))
    return site.install()


def test_a_dry_run_lists_every_check_and_writes_nothing(site: Site) -> None:
    """The result has all checks with their level, and the required space."""
    done = site.install("--dry-run")
    checks = _checks(done)
    assert done.result["steps"]
    assert list(checks) == [check.id for check in CHECKS]
    assert {finding["level"] for finding in checks.values()} <= {"ok", "warning", "unchecked"}
    assert "MB needed" in checks["space"]["message"]
    assert not site.path.exists()


def test_a_dry_run_that_finds_faults_lists_the_rest_as_well(site: Site) -> None:
    """The error is that of a real run, and the result has all checks."""
    done = site.install("--dry-run", "--host", "192.0.2.1")
    assert (done.code, done.error["code"]) == (3, "ADDRESS_UNUSABLE")
    checks = _checks(done)
    assert checks["port"]["level"] == "fault"
    assert checks["space"]["level"] == "ok"
    assert site.install("--host", "192.0.2.1").error["code"] == "ADDRESS_UNUSABLE"


def test_a_file_system_without_inodes_is_found(make_site: MakeSite) -> None:
    """A file system with free space but only 500 inodes: the error has the number that is needed."""
    done = _refused_on(make_site, "size=1g,nr_inodes=500")
    assert (done.code, done.error["code"]) == (3, "INODES_EXHAUSTED")
    assert done.error["details"]["free_files"] < 500 < done.error["details"]["needed_files"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the programs of root's installations are outside of the home")
def test_a_noexec_file_system_is_found(make_site: MakeSite) -> None:
    """PostgreSQL could not be executed there."""
    done = _refused_on(make_site, "size=1g,noexec")
    assert (done.code, done.error["code"]) == (3, "HOME_NOEXEC")


def test_the_required_space_is_close_to_the_used_space(installed: Site, site: Site) -> None:
    """The required bytes are at least the used ones and less than twice as many; inodes at most 20 % more."""
    size = files = 0
    programs = installed.home.programs  # outside of the home if root installed it
    for top in (installed.path, *([programs] if programs is not None else [])):
        for root, directories, names in os.walk(top):
            files += len(directories) + len(names)
            size += sum(os.lstat(os.path.join(root, name)).st_blocks * 512 for name in names)  # noqa: PTH118
    checks = _checks(site.install("--dry-run"))
    assert size < _needed(checks["space"]) * MEGABYTE < size * 2
    assert files < _needed(checks["inodes"]) < files * 1.2


def _needed(finding: dict[str, Any]) -> int:
    """Return the sum of the needed amounts in the message of *finding*, over all file systems."""
    return sum(int(number) for number in re.findall(r", (\d+) (?:MB )?needed", finding["message"]))


@pytest.mark.root
def test_little_memory_is_found(make_site: MakeSite) -> None:
    """A memory cgroup's limit of 64 MB is found although the machine has more."""
    with _memory_group(64 * MEGABYTE) as prefix:
        done = make_site(prefix=prefix).install("--dry-run")
    assert _checks(done)["memory"]["code"] == "MEMORY_LOW"
    assert done.code == 3


@contextmanager
def _memory_group(limit: int) -> Iterator[tuple[str, ...]]:
    """Yield the words before a command that run it in a memory cgroup of *limit* bytes, version 1 or 2."""
    root = Path("/sys/fs/cgroup")
    kinds = {root / "memory": "memory.limit_in_bytes", root: "memory.max"}
    group = None
    for base, file in kinds.items():
        candidate = base / f"mosaic-test-{os.getpid()}"
        with suppress(OSError):
            candidate.mkdir()
            group = candidate
            (candidate / file).write_text(str(limit))
            break
        if group is not None:
            group.rmdir()
            group = None
    if group is None:
        pytest.skip("needs a writable memory cgroup")
    try:
        yield ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))
    finally:
        group.rmdir()


def test_a_missing_locale_is_found(make_site: MakeSite) -> None:
    """The C library's locales are hidden by a mount that only the installer sees; initdb would fail."""
    hide = in_namespaces("--mount", script="mount -t tmpfs none /usr/lib/locale || exit")
    probe = "import locale; locale.setlocale(locale.LC_CTYPE, 'C.UTF-8')"
    if subprocess.run([*hide, "python3", "-c", probe], capture_output=True, check=False).returncode == 0:
        pytest.skip("this C library needs no file for C.UTF-8")
    if subprocess.run([*hide, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount")
    done = make_site(prefix=hide).install("--dry-run")
    assert _checks(done)["locale"]["code"] == "LOCALE_MISSING"
    assert done.code == 3


@pytest.mark.parametrize(("option", "name"), [("-f 20000", "file size"), ("-n 100", "open files")])
def test_limits_that_are_too_low_are_found(make_site: MakeSite, option: str, name: str) -> None:
    """The message names the limit that the shell's ulimit has lowered."""
    site = make_site(prefix=("sh", "-c", f'ulimit {option} && exec "$@"', "sh"))
    done = site.install()
    assert (done.code, done.error["code"]) == (3, "LIMIT_TOO_LOW")
    assert name in done.error["message"]
    assert not site.path.exists()


def test_another_installation_is_reported(make_site: MakeSite, installed: Site) -> None:
    """If there is an installation in the default home, a second one is allowed, with a warning about the first."""
    environ: dict[str, str] = {}
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        script = (
            "set -e; mount -t tmpfs none /var/lib; mkdir /var/lib/mosaic-gateway;"
            ' mount --bind "$0" /var/lib/mosaic-gateway'
        )
        prefix = in_namespaces("--mount", script=script, argument=str(installed.path))
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip("root is not allowed to mount")
    else:
        share = installed.path.with_name("share")
        share.mkdir()
        (share / "mosaic-gateway").symlink_to(installed.path)
        environ = {"XDG_DATA_HOME": str(share)}
    done = make_site(prefix=prefix).install("--dry-run", **environ)
    others = _checks(done)["others"]
    assert (others["code"], done.code) == ("OTHER_INSTALLATION", 0)
    assert "running" in others["message"]
