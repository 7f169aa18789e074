"""The command that ``uninstall`` names for the removal of what it retained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.hint import Caller
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.uninstall.verb import purge_command

AGAIN = "install the package again (pip install mosaic-gateway)"
TYPED = "/opt/programs/bin/mosaic-gateway"


@pytest.mark.parametrize(
    ("copy", "root", "expected"),
    [
        (None, True, "{typed} uninstall --home {home} --purge=ID"),
        ("other/runtime/gateway-1", True, "{typed} uninstall --home {home} --purge=ID"),
        ("programs/gateway-1", True, f"{AGAIN}, then run mosaic-gateway uninstall --home {{home}} --purge=ID"),
        ("home/runtime/gateway-1", False, "rm -rf {home}"),
    ],
)
def test_the_command_exists_after_the_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copy: str | None, expected: str, *, root: bool
) -> None:
    """The typed command, unless it is in the home's program copy, which has just been deleted."""
    if copy is not None:
        monkeypatch.setattr(sys.modules["__main__"], "PROGRAM_COPY", str(tmp_path.resolve() / copy), raising=False)
    broker: Any = object() if root else None
    home = Home(tmp_path / "home", tmp_path / "programs" if root else None, broker)
    shown = Caller(program=TYPED).text(purge_command(home, "ID"))
    assert shown == expected.format(typed=TYPED, home=home.path)
