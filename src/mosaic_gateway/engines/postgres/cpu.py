"""Model and features of this machine's CPU, which determine whether it can run pgvector."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VECTOR_NEEDS", "Cpu", "this_cpu"]

MODEL_KEYS = ("model name", "cpu model", "CPU part")
FLAG_KEYS = ("flags", "Features")
#: Machine → CPU features, as named in /proc/cpuinfo, that the wheel's vector.so uses (from its disassembly).
VECTOR_NEEDS: Mapping[str, frozenset[str]] = {
    "x86_64": frozenset({"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "popcnt"}),
    "aarch64": frozenset({"asimd", "sve"}),
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """A CPU: its model name, a hash of name and features (16 hexadecimal digits), and the features.

    ``flags`` has the kernel's names of the features (avx2, sve), none if they cannot be read.
    """

    model: str
    fingerprint: str
    flags: frozenset[str] = frozenset()


def this_cpu(description: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Return the first CPU listed in the file *description*; if it cannot be read, what `platform` reports."""
    fields: dict[str, str] = {}
    try:
        text = description.read_text(errors="replace").strip().partition("\n\n")[0]
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = next((f"{fields[key]}" for key in MODEL_KEYS if fields.get(key)), platform.processor() or "unknown")
    flags = next((fields[key] for key in FLAG_KEYS if key in fields), "")
    model = f"{name} ({platform.machine()})"
    features = " ".join(sorted(flags.split()))
    fingerprint = hashlib.sha256(f"{model}\n{features}".encode()).hexdigest()[:16]
    return Cpu(model, fingerprint, frozenset(flags.split()))
