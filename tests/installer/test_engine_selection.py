"""Selection of the engine for a new home."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaic_gateway.engines.pglite.node import Node, NodeMissingError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.install import engine_selection
from mosaic_gateway_installer.install.engine_selection import NoEngineError, select_engine

NODE = Node(binary=Path("/usr/bin/node"), version="20.1.0")
NONE = NodeMissingError("there is none", hint="get one")


def test_postgresql_comes_first() -> None:
    """If PostgreSQL runs here, Node.js does not matter."""
    assert select_engine(None, NODE).engine is select_engine(None, NONE).engine is EngineName.POSTGRES


def test_pglite_comes_second() -> None:
    """The reason states why PostgreSQL does not run."""
    created = select_engine("this CPU lacks avx2", NODE)
    assert created.engine is EngineName.PGLITE
    assert "lacks avx2" in created.reason
    assert "20.1.0" in created.reason


def test_no_engine() -> None:
    """One error with both reasons and three remedies."""
    with pytest.raises(NoEngineError) as caught:
        select_engine("this CPU lacks avx2", NONE)
    assert "lacks avx2" in caught.value.message
    assert "there is none" in caught.value.message
    assert all(remedy in str(caught.value.hint) for remedy in ("--postgres-bin", "[pglite]", "--database-url"))


@pytest.mark.parametrize(
    ("machine", "line", "missing"),
    [
        ("x86_64", "flags : fpu avx sse4_2 popcnt", "avx2"),  # SandyBridge
        ("aarch64", "Features : fp asimd crc32", "sve"),  # Raspberry Pi
        ("aarch64", "Features : fp asimd sve", None),
        ("x86_64", "flags : avx avx2 fma f16c bmi1 bmi2 abm movbe popcnt", None),
        ("x86_64", "", None),  # flags unknown: PostgreSQL is tried
        ("riscv64", "flags : none", None),
    ],
)
def test_missing_cpu_flags(
    machine: str, line: str, missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only flags known to be missing are a reason; anything else is detected at the first start."""
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name : Old One\n{line}\n")
    monkeypatch.setattr("platform.machine", lambda: machine)
    fault = engine_selection._postgres_fault(cpuinfo)
    assert (fault is None) is (missing is None)
    if missing is not None and fault is not None:
        assert missing in fault
        assert "Old One" in fault
