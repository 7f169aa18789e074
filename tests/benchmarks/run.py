"""Measure the installed product, each time together with a floor or peer in the same run.

Print the table of docs/reference/performance.md.

    python tests/benchmarks/run.py [--rounds N] [--json FILE]
        [--only install adopt upgrade start doctor help memory http flood forward migrations pglite]

Whole processes are timed from outside. Values are medians; ratios are computed within each round, so that
changes of the machine's speed cancel out. Everything runs in a scratch directory and on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from floor import FloorInstall
from forward_speed import measure as measure_forward_check
from measured_home import MeasuredHome
from migrations_speed import measure as measure_runner
from pglite_speed import measure as measure_pglite_install
from pglite_wire import measure as measure_pglite_wire
from sign_in_flood import measure as measure_sign_ins
from upgrade_speed import measure as measure_upgrades

LOAD_SECONDS = 5
PAUSE_AFTER_UNINSTALL = 6  # seconds
#: Measurements that start a PostgreSQL server directly, or connect to the one of a home, which root cannot.
NOT_AS_ROOT = {"install", "upgrade", "migrations", "pglite", "forward"}
SIGN_IN = {"name": "Bench", "email": "bench@example.com"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table."""

    what: str
    value: str
    target: str


def main() -> int:
    """Run the selected measurements and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", choices=sorted(MEASUREMENTS), default=sorted(MEASUREMENTS))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if os.geteuid() == 0 and not NOT_AS_ROOT.isdisjoint(arguments.only):
        parser.error(f"root can only measure {', '.join(sorted({*MEASUREMENTS} - NOT_AS_ROOT))}")
    scratch = Path(tempfile.mkdtemp(prefix="mosaic-bench-"))
    scratch.chmod(0o755)
    try:
        rows = [row for name in arguments.only for row in MEASUREMENTS[name](scratch, arguments.rounds)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n| what | measured | aim |\n|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.value} | {row.target} |")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([[row.what, row.value, row.target] for row in rows], indent=2))
    return 0


def measure_install(scratch: Path, rounds: int) -> list[Row]:
    """Measure a new ``install`` including its smoke test, against the work that no installer can avoid."""
    ours, floors = [], []
    for number in range(rounds + 1):
        floor = FloorInstall(scratch / f"floor-{number}").run()
        home = MeasuredHome(scratch / f"home-{number}", free_port())
        seconds = timed(home.install)
        home.purge()
        if number:  # the first round fills the caches
            floors.append(floor)
            ours.append(seconds)
        progress("install", number, f"{seconds:.2f} s, floor {floor:.2f} s")
    ratio = statistics.median(a / b for a, b in zip(ours, floors, strict=True))
    value = f"{statistics.median(ours):.2f} s = {ratio:.2f} × the floor ({statistics.median(floors):.2f} s)"
    what = "fresh `install` to smoke-tested; floor: the same copies, initdb, start, `psql -f`, one Python start"
    return [Row(what=what, value=value, target="≤ 1.5 ×")]


def measure_upgrade(scratch: Path, rounds: int) -> list[Row]:
    """Measure ``upgrade`` with one migration on a home of 1 GB."""
    return [
        Row(what=what, value=value, target=target)
        for what, value, target in measure_upgrades(scratch, rounds, free_port())
    ]


def measure_start(scratch: Path, rounds: int) -> list[Row]:
    """Measure ``start`` on an existing home until /readyz responds with 200, and the migration check in it."""
    home = MeasuredHome(scratch / "start", free_port())
    home.install()
    seconds, checks = [], []
    try:
        for number in range(rounds):
            home.call("stop")
            seconds.append(timed(home.start_until_ready))
            log = (home.path / "logs" / "gateway.log").read_text()
            checks.append(float(re.findall(r"Schema up to date after ([0-9.]+) ms", log)[-1]))
            progress("start", number, f"{seconds[-1]:.2f} s, migration check {checks[-1]:.1f} ms")
    finally:
        home.purge()
    ready = f"{statistics.median(seconds):.2f} s"
    check = f"{statistics.median(checks):.1f} ms"
    return [
        Row(what="`start` on an existing home until `/readyz`", value=ready, target="≤ 1.0 s"),
        Row(what="… of which the migration check", value=check, target="≤ 10 ms"),
    ]


def measure_adopt(scratch: Path, rounds: int) -> list[Row]:
    """Measure ``install`` on data that an uninstall retained, including its smoke test."""
    homes = [MeasuredHome(scratch / f"adopt-{number}", free_port()) for number in range(rounds + 1)]
    for home in homes:
        home.install()
        home.create_admin(**SIGN_IN)
        home.call("uninstall")
    # ext4 is slow to allocate inodes after many were freed. Data is not usually adopted within seconds of an
    # uninstall or of another home's purge.
    time.sleep(PAUSE_AFTER_UNINSTALL)
    seconds = []
    for number, home in enumerate(homes):
        elapsed = timed(home.install)
        if number:  # the first round fills the caches
            seconds.append(elapsed)
        progress("adopt", number, f"{elapsed:.2f} s")
    for home in homes:
        home.purge()
    value = f"{statistics.median(seconds):.2f} s"
    return [Row(what="adopt: `install` over retained data", value=value, target="≤ 1.0 s")]


def measure_doctor(scratch: Path, rounds: int) -> list[Row]:
    """Measure ``doctor`` on a healthy running home, and an ``install`` that has nothing to do."""
    home = MeasuredHome(scratch / "doctor", free_port())
    home.install()
    doctors, installs = [], []
    try:
        for number in range(rounds):
            doctors.append(timed(lambda: home.call("doctor")))
            installs.append(timed(home.install))
            progress("doctor", number, f"{doctors[-1]:.2f} s, install again {installs[-1]:.2f} s")
    finally:
        home.purge()
    return [
        Row(what="`doctor`, every check", value=f"{statistics.median(doctors):.2f} s", target="≤ 1.5 s"),
        Row(what="`install` with nothing to do", value=f"{statistics.median(installs):.2f} s", target="≤ 0.5 s"),
    ]


def measure_help(_scratch: Path, rounds: int) -> list[Row]:
    """Measure ``--help``, with byte-code caches."""
    command = MeasuredHome.command("--help")
    seconds = [timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)) for _ in range(rounds + 1)]
    floor = [timed(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)) for _ in range(rounds + 1)]
    value = f"{statistics.median(seconds[1:]):.3f} s (an empty Python: {statistics.median(floor[1:]):.3f} s)"
    return [Row(what="`--help`", value=value, target="≤ 0.15 s")]


def measure_memory(scratch: Path, _rounds: int) -> list[Row]:
    """Measure the proportional set size of supervisor, gateway and PostgreSQL, idle after use."""
    home = MeasuredHome(scratch / "memory", free_port())
    home.install()
    try:
        home.create_admin(**SIGN_IN)
        cookie = home.sign_in(SIGN_IN["email"])
        home.load("/api/auth/get-session", cookie, seconds=1)
        time.sleep(2)
        parts = home.memory()
    finally:
        home.purge()
    total = sum(parts.values()) / 1e6
    detail = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in parts.items())
    return [Row(what="idle memory (PSS)", value=f"{total:.0f} MB ({detail})", target="≤ 90 MB")]


def measure_http(scratch: Path, _rounds: int) -> list[Row]:
    """Measure requests per second with 64 connections; the load generator shares the two cores."""
    home = MeasuredHome(scratch / "http", free_port())
    home.install()
    rows = []
    try:
        home.create_admin(**SIGN_IN)
        cookie = home.sign_in(SIGN_IN["email"])
        for path, aim in (("/api/bootstrap/status", "-"), ("/api/auth/get-session", "≥ 1,230/s")):
            results = home.load(path, cookie, seconds=LOAD_SECONDS)
            value = f"{results['rps']:,.0f}/s, p99 {results['p99_ms']:.0f} ms"
            rows.append(Row(what=f"`GET {path}`, 64 connections", value=value, target=aim))
            progress("http", 0, f"{path}: {value}")
    finally:
        home.purge()
    return rows


def measure_flood(scratch: Path, rounds: int) -> list[Row]:
    """Measure a sign-in while one address floods the gateway with wrong passwords."""
    home = MeasuredHome(scratch / "flood", free_port())
    home.install()
    try:
        home.create_admin(**SIGN_IN)
        lines = measure_sign_ins(home, SIGN_IN["email"], rounds)
    finally:
        home.purge()
    return [Row(what=what, value=value, target=target) for what, value, target in lines]


def measure_forward(scratch: Path, rounds: int) -> list[Row]:
    """Measure forward authentication, compared with better-auth."""
    return [
        Row(what=what, value=value, target=target)
        for what, value, target in measure_forward_check(scratch, rounds, free_port())
    ]


def measure_migrations(scratch: Path, rounds: int) -> list[Row]:
    """Measure the migration runner, compared with drizzle-orm and psql."""
    return [Row(what=what, value=value, target=target) for what, value, target in measure_runner(scratch, rounds)]


def measure_pglite(scratch: Path, rounds: int) -> list[Row]:
    """Measure a new installation on PGlite and its wire server, compared with the same without this project."""
    lines = [*measure_pglite_install(scratch, rounds, free_port()), *measure_pglite_wire(rounds)]
    return [Row(what=what, value=value, target=target) for what, value, target in lines]


def timed(function: Callable[[], object]) -> float:
    """Return the seconds that *function* took."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def free_port() -> int:
    """Return a port that is currently free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def progress(name: str, number: int, text: str) -> None:
    """Print the progress of a measurement."""
    print(f"{name} {number}: {text}", file=sys.stderr, flush=True)


MEASUREMENTS: dict[str, Callable[[Path, int], list[Row]]] = {
    "install": measure_install,
    "adopt": measure_adopt,
    "upgrade": measure_upgrade,
    "start": measure_start,
    "doctor": measure_doctor,
    "help": measure_help,
    "memory": measure_memory,
    "http": measure_http,
    "flood": measure_flood,
    "forward": measure_forward,
    "migrations": measure_migrations,
    "pglite": measure_pglite,
}

if __name__ == "__main__":
    sys.exit(main())
