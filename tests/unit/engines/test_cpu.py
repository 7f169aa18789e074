"""Tests of the CPU's model name and fingerprint."""

from __future__ import annotations

from pathlib import Path

from mosaic_gateway.engines.postgres.cpu import this_cpu

INTEL = (
    "processor\t: 0\nmodel name\t: Intel Xeon (IvyBridge)\nflags\t\t: fpu sse avx\n\nprocessor\t: 1\nflags\t\t: other\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


def test_model_name(tmp_path: Path) -> None:
    """The model is read from the field of each architecture."""
    description = tmp_path / "cpuinfo"
    for text, model in ((INTEL, "Intel Xeon (IvyBridge)"), (ARM, "0xd0c")):
        description.write_text(text)
        assert this_cpu(description).model.startswith(model)


def test_fingerprint_depends_on_features(tmp_path: Path) -> None:
    """The fingerprint changes with an additional flag, not with the order of flags."""
    description = tmp_path / "cpuinfo"
    prints = []
    for flags in ("fpu sse avx", "avx fpu sse", "fpu sse avx avx2"):
        description.write_text(INTEL.replace("fpu sse avx", flags))
        prints.append(this_cpu(description).fingerprint)
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_without_cpuinfo(tmp_path: Path) -> None:
    """Without /proc/cpuinfo there are still a model and a fingerprint."""
    cpu = this_cpu(tmp_path / "none")
    assert cpu.model
    assert len(cpu.fingerprint) == 16
