"""The processor's name and fingerprint."""

from __future__ import annotations

from pathlib import Path

from mosaic_gateway.engines.postgres.cpu import this_cpu

INTEL = (
    "processor\t: 0\nmodel name\t: Intel Xeon (IvyBridge)\nflags\t\t: fpu sse avx\n\nprocessor\t: 1\nflags\t\t: other\n"
)
ARM = "processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


def test_names(tmp_path: Path) -> None:
    """The model is found where each architecture puts it."""
    description = tmp_path / "cpuinfo"
    for text, model in ((INTEL, "Intel Xeon (IvyBridge)"), (ARM, "0xd0c")):
        description.write_text(text)
        assert this_cpu(description).model.startswith(model)


def test_fingerprint_follows_the_abilities(tmp_path: Path) -> None:
    """The order of flags means nothing, a further flag does."""
    description = tmp_path / "cpuinfo"
    prints = []
    for flags in ("fpu sse avx", "avx fpu sse", "fpu sse avx avx2"):
        description.write_text(INTEL.replace("fpu sse avx", flags))
        prints.append(this_cpu(description).fingerprint)
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


def test_without_a_description(tmp_path: Path) -> None:
    """Where the system tells nothing there still is a name and a fingerprint."""
    cpu = this_cpu(tmp_path / "none")
    assert cpu.model
    assert len(cpu.fingerprint) == 16
