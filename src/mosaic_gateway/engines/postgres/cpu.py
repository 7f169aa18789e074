"""What this machine's processor is called and can do; which machine code runs depends on both."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["VECTOR_NEEDS", "Cpu", "this_cpu"]

MODEL_KEYS = ("model name", "cpu model", "CPU part")
FLAG_KEYS = ("flags", "Features")
#: Machine → /proc/cpuinfo's names for what the wheel's vector.so was compiled to use (found in its machine code).
VECTOR_NEEDS: Mapping[str, frozenset[str]] = {
    "x86_64": frozenset({"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "popcnt"}),
    "aarch64": frozenset({"asimd", "sve"}),
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor: its name for people, a hash over name and abilities (16 hexadecimal digits), and the abilities.

    ``flags`` has the kernel's names of them (avx2, sve), none where they cannot be read.
    """

    model: str
    fingerprint: str
    flags: frozenset[str] = frozenset()


def this_cpu(description: Path = Path("/proc/cpuinfo")) -> Cpu:
    """Return the first processor that *description* lists; where it cannot be read, what Python knows."""
    fields: dict[str, str] = {}
    try:
        text = description.read_text(errors="replace").strip().partition("\n\n")[0]
    except OSError:
        text = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    named = next((f"{fields[key]}" for key in MODEL_KEYS if fields.get(key)), platform.processor() or "unknown")
    flags = next((fields[key] for key in FLAG_KEYS if key in fields), "")
    model = f"{named} ({platform.machine()})"
    abilities = " ".join(sorted(flags.split()))
    fingerprint = hashlib.sha256(f"{model}\n{abilities}".encode()).hexdigest()[:16]
    return Cpu(model, fingerprint, frozenset(flags.split()))
