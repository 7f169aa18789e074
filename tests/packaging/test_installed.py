"""The tests run against the installed wheel, whose files are complete, and not against the source tree.

Uses no fixture and no conftest, because test_mutations runs this file against faulty wheels.
"""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.metadata import distribution
from pathlib import Path

import pytest

import mosaic_gateway
import mosaic_gateway_installer
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.gate import BUNDLES, check_bundles, read_directory

CHECKOUT = Path(__file__).resolve().parents[2]

only_installed = pytest.mark.skipif(
    os.environ.get("MOSAIC_GATEWAY_TEST_INSTALLED") != "1", reason="tox sets this variable if it installed the wheel"
)


@only_installed
@pytest.mark.parametrize("package", [mosaic_gateway, mosaic_gateway_installer], ids=lambda package: package.__name__)
def test_tests_see_the_installed_wheel(package: object) -> None:
    """Neither package is imported from the source directories of the checkout."""
    file = Path(str(getattr(package, "__file__", "")))

    assert file.is_file()
    assert not file.is_relative_to(CHECKOUT / "src")
    assert not file.is_relative_to(CHECKOUT / "installer")


@only_installed
def test_installed_files_match_record() -> None:
    """Every file with a hash in RECORD exists and has that hash."""
    files = [file for file in distribution("mosaic-gateway").files or [] if file.hash is not None]
    assert any(file.name.endswith(".sql") for file in files)
    for file in files:
        digest = hashlib.sha256(Path(str(file.locate())).read_bytes()).digest()
        assert file.hash is not None
        assert file.hash.value == base64.urlsafe_b64encode(digest).decode().rstrip("="), file


def test_installed_bundles_match_the_lock() -> None:
    """The SQL files of the imported package match the hash lock."""
    assert check_bundles(read_directory(Path(mosaic_gateway.__file__).parent / "sql")) == ()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_installed_bundles_load(bundle: str) -> None:
    """`Bundle.load` accepts the installed migrations, and there is at least one."""
    assert Bundle.load(bundle).migrations
