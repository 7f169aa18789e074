"""docs/reference/checks.md has every check, and every code that preflight and doctor define."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import mosaic_gateway_installer
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.checks.doctor import checks_for
from mosaic_gateway_installer.checks.preflight.run import CHECKS

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "checks.md"
FAMILIES = ("checks", "service")


def test_every_code_is_documented() -> None:
    """Each error code of those modules is in the document."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(mosaic_gateway_installer.__path__, "mosaic_gateway_installer.")
        if module.name.split(".")[1] in FAMILIES
    ]
    codes = {
        value.code
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, MosaicError) and value.__module__ == module.__name__
    } - {"FAILED"}
    text = DOCUMENT.read_text(encoding="utf-8")
    assert len(codes) > 20
    assert sorted(code for code in codes if f"`{code}`" not in text) == []


def test_every_check_is_documented() -> None:
    """Each check has a row in its table, alone or with others."""
    before, _, installed = DOCUMENT.read_text(encoding="utf-8").partition("\n## doctor\n")
    doctors = {check.id for engine in EngineName for check in checks_for(engine)}
    assert sorted({check.id for check in CHECKS} - _rows(before)) == []
    assert sorted(doctors - _rows(installed)) == []


def _rows(text: str) -> set[str]:
    """Return the names in the first column of the tables."""
    return {
        name.strip() for line in text.splitlines() if line.startswith("| ") for name in line.split("|")[1].split(",")
    }
