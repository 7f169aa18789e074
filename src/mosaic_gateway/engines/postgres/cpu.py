"""What this machine's processor is called and can do; which machine code runs depends on both."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cpu", "this_cpu"]

MODEL_KEYS = ("model name", "cpu model", "CPU part")
FLAG_KEYS = ("flags", "Features")


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor: its name for people, and a hash over name and abilities (16 hexadecimal digits)."""

    model: str
    fingerprint: str


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
    return Cpu(model, hashlib.sha256(f"{model}\n{abilities}".encode()).hexdigest()[:16])
