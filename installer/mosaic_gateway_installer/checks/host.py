"""Facts about the machine, read once; the checks that judge them need no other access to the machine."""

from __future__ import annotations

import locale
import os
import platform
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mosaic_gateway.engines import postgres

__all__ = ["HostFacts", "free_memory", "read_host"]

#: The locale of every cluster: it has the same collation on every system.
CLUSTER_LOCALE = "C.UTF-8"
UNLIMITED_V1 = 1 << 60  # bytes; cgroup v1 writes a number near 2^63 for "no limit"
LIMITS = {"file size": "RLIMIT_FSIZE", "open files": "RLIMIT_NOFILE", "address space": "RLIMIT_AS"}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """This machine and this process.

    ``libc`` is like ``glibc 2.36``, empty if unknown; ``system_version`` is the version of macOS, otherwise empty.
    ``memory`` is in bytes, None if it cannot be read. ``limits`` are the soft limits of the process, None: unlimited.
    """

    system: str
    system_version: tuple[int, ...]
    machine: str
    libc: str
    implementation: str
    python: tuple[int, ...]
    cpu: postgres.Cpu
    memory: int | None
    has_locale: bool
    limits: Mapping[str, int | None]
    now: datetime


def read_host() -> HostFacts:
    """Read the facts about this machine."""
    return HostFacts(
        system=sys.platform,
        system_version=_numbers(platform.mac_ver()[0]) if sys.platform == "darwin" else (),
        machine=platform.machine(),
        libc=_libc(),
        implementation=sys.implementation.name,
        python=tuple(sys.version_info[:3]),
        cpu=postgres.this_cpu(),
        memory=free_memory(),
        has_locale=_has_locale(),
        limits={name: _limit(constant) for name, constant in LIMITS.items()},
        now=datetime.now(UTC),
    )


def free_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that new processes can use: the least of MemAvailable and what each cgroup leaves."""
    amounts = [amount for amount in (_available(proc / "meminfo"), *_in_cgroups(proc, cgroups)) if amount is not None]
    return min(amounts, default=None)


def _available(meminfo: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _in_cgroups(proc: Path, cgroups: Path) -> list[int | None]:
    """Return the free bytes of this process's memory cgroup and of each above it (cgroups(7), version 1 and 2)."""
    left: list[int | None] = []
    with suppress(OSError):
        for line in (proc / "self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                base, limit, usage = cgroups, "memory.max", "memory.current"
            elif "memory" in controllers.split(","):
                base, limit, usage = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            else:
                continue
            group = base / path.lstrip("/")
            # In a container the path may be one of the host's; then the mount's root is this process's cgroup.
            for directory in (group, *group.parents) if group.is_dir() else (base,):
                left.append(_left_in(directory, limit, usage))
                if directory == base:
                    break
    return left


def _left_in(group: Path, limit: str, usage: str) -> int | None:
    with suppress(OSError, ValueError):
        text = (group / limit).read_text().strip()
        if text == "max" or int(text) >= UNLIMITED_V1:
            return None
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Inactive page cache is reclaimed on demand, so it counts as free.
        cached = int(fields.get("total_inactive_file", fields.get("inactive_file", 0)))
        return max(0, int(text) - int((group / usage).read_text()) + cached)
    return None


def _libc() -> str:
    with suppress(ValueError, OSError, AttributeError):
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    return "musl" if any(Path("/lib").glob("ld-musl-*")) else ""


def _has_locale() -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, CLUSTER_LOCALE)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return True


def _limit(constant: str) -> int | None:
    soft, _ = resource.getrlimit(getattr(resource, constant))
    return None if soft == resource.RLIM_INFINITY else soft


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
