"""Which engine a new home gets: decided from what runs here alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaic_gateway.engines.pglite.errors import NodeMissingError
from mosaic_gateway.engines.pglite.node import Node
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.install import engine_selection
from mosaic_gateway_installer.install.engine_selection import NoEngineError, select_engine

NODE = Node(binary=Path("/usr/bin/node"), version="20.1.0")
NONE = NodeMissingError("there is none", hint="get one")


def test_postgresql_comes_first() -> None:
    """Where it runs, Node.js does not matter."""
    assert select_engine(None, NODE).engine is select_engine(None, NONE).engine is EngineName.POSTGRES


def test_pglite_comes_second() -> None:
    """The reason says what is wrong with PostgreSQL."""
    created = select_engine("this CPU lacks avx2", NODE)
    assert created.engine is EngineName.PGLITE
    assert "lacks avx2" in created.reason
    assert "20.1.0" in created.reason


def test_neither() -> None:
    """One error with both reasons and three ways out."""
    with pytest.raises(NoEngineError) as caught:
        select_engine("this CPU lacks avx2", NONE)
    assert "lacks avx2" in caught.value.message
    assert "there is none" in caught.value.message
    assert all(way in caught.value.hint for way in ("--postgres-bin", "[pglite]", "--database-url"))


@pytest.mark.parametrize(
    ("machine", "line", "missing"),
    [
        ("x86_64", "flags : fpu avx sse4_2 popcnt", "avx2"),  # SandyBridge
        ("aarch64", "Features : fp asimd crc32", "sve"),  # Raspberry Pi
        ("aarch64", "Features : fp asimd sve", None),
        ("x86_64", "flags : avx avx2 fma f16c bmi1 bmi2 abm movbe popcnt", None),
        ("x86_64", "", None),  # not told: it is tried
        ("riscv64", "flags : none", None),
    ],
)
def test_what_the_processor_lacks(
    machine: str, line: str, missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what is known to be missing counts; everything else is left to the test after the first start."""
    description = tmp_path / "cpuinfo"
    description.write_text(f"model name : Old One\n{line}\n")
    monkeypatch.setattr("platform.machine", lambda: machine)
    refusal = engine_selection._refusal(description)
    assert (refusal is None) is (missing is None)
    if missing is not None and refusal is not None:
        assert missing in refusal
        assert "Old One" in refusal
