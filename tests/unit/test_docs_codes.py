"""docs/checks.md has every code that preflight and doctor have of their own."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import mosaic_gateway_installer
from mosaic_gateway.errors import MosaicError

DOCUMENT = Path(__file__).parents[2] / "docs" / "checks.md"
FAMILIES = ("checks", "preflight", "service", "clock", "findings", "support")


def test_every_code_is_documented() -> None:
    """Each error class of those modules, and nothing that somebody forgot to write down."""
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
