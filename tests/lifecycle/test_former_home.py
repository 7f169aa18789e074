"""Homes that the commit before the modules' new layout installed, with its own wheel (``former/``, version 0.1.0)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.lifecycle.old_home import Old, restore_saved_home, seeded_home
from tests.lifecycle.test_upgrade import assert_serves
from tests.lifecycle.versions import GOOD, NEW, PIP_LIMIT
from tests.support.ports import free_port
from tests.support.scratch import make_scratch

from mosaic_gateway.installation.engine_name import EngineName

WHEEL = Path(__file__).with_name("former") / "mosaic_gateway-0.1.0-py3-none-any.whl"
Version = Callable[[str], Path]


@pytest.fixture(scope="module")
def former(scratch_root: Path) -> Path:
    """The former package, unpacked."""
    place = scratch_root / "former"
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]
    subprocess.run([sys.executable, *words, place, WHEEL], check=True, capture_output=True, timeout=PIP_LIMIT)
    place.chmod(0o755)
    return place


@pytest.fixture(scope="module", params=[EngineName.POSTGRES, pytest.param(EngineName.PGLITE, marks=pytest.mark.pglite)])
def template(
    request: pytest.FixtureRequest,
    ordinary_user: None,
    scratch_root: Path,
    former: Path,
) -> Iterator[Old]:
    """A home of the former package with data and a backup, stopped."""
    place = make_scratch(scratch_root, f"former-{request.param}")
    site = seeded_home(place, former, free_port(), MOSAIC_GATEWAY_ENGINE=str(request.param))
    yield site
    site.close()


@pytest.fixture
def home(template: Old) -> Iterator[Old]:
    """The home, served by its own program."""
    yield restore_saved_home(template)
    template.close()


def test_a_former_home_goes_on_with_the_present_package(home: Old, former: Path, version: Version) -> None:
    """Backed up, upgraded, restored, reverted, uninstalled and adopted; the rows are those of before at each point."""
    made = home.run_version(former, "backup", "create").result["name"]
    assert home.run_version(version(NEW), "backup", "verify", made).code == 0
    assert home.run_version(version(NEW), "status").result["running"] is True
    upgraded = home.run_version(version(NEW), "upgrade")
    assert upgraded.code == 0, (upgraded.out, upgraded.err)
    assert upgraded.result["changed"] is True
    assert_serves(home, NEW)
    assert home.rows() == home.before
    assert home.session()["user"]["name"] == "Ada"
    assert home.run_version(version(NEW), "doctor").code == 0
    restored = home.run_version(version(NEW), "backup", "restore", "--yes", made)
    assert restored.code == 0, (restored.out, restored.err)
    assert home.rows() == home.before
    reverted = home.run_version(version(NEW), "upgrade", "--revert", "--accept-loss")
    assert reverted.code == 0, (reverted.out, reverted.err)
    assert home.rows() == home.before
    assert home.run_version(version(NEW), "uninstall").code == 0
    adopted = home.run(*home.install_words(), PYTHONPATH=str(version(NEW)))
    assert adopted.code == 0, (adopted.out, adopted.err)
    assert home.rows() == home.before
    identity = home.receipt()["instance_id"]
    assert home.run_version(version(NEW), "uninstall", f"--purge={identity}").code == 0
    assert not home.path.exists()


@pytest.mark.lifecycle
def test_a_migration_comes_with_a_later_version(home: Old, version: Version) -> None:
    """The former program serves until the later one does."""
    upgraded = home.run_version(version(GOOD), "upgrade")
    assert upgraded.code == 0, (upgraded.out, upgraded.err)
    assert_serves(home, GOOD)
