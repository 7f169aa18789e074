"""The runner compared with drizzle-orm 0.45 (postgres-js) and ``psql -1 -f``: same SQL, same durable server.

The runner and drizzle-orm are timed from an open connection and include reading the folder; psql's time is that of
its process. Each run gets a new database, which is flushed beforehand. The contenders take turns, and a ratio is
computed from the times of one round. Without Node.js, drizzle-orm is left out.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from measured_home import MeasuredHome
from migrations_server import DurableServer, fill_ledger, grouped, small, tables, write_folder

from mosaic_gateway.migrations import Bundle, migrate
from mosaic_gateway.migrations.events import Event, StatementApplied
from mosaic_gateway.migrations.executor import LARGEST
from mosaic_gateway.migrations.failure import StatementFailedError
from mosaic_gateway.migrations.wire import send

INTEROP = Path(__file__).parents[1] / "interop"
LIMIT = 300  # seconds
MEMORY = Path("/dev/shm")  # noqa: S108 - used for a private directory only
MANY, HUGE = 1000, 10_000  # migrations
BROKEN = "SELECT 1 / (SELECT 0);"
ONE_QUERY = "import sys, psycopg; psycopg.connect(sys.argv[1], autocommit=True).execute('SELECT 1').fetchone()"
Line = tuple[str, str, str]
Times = Mapping[str, list[float]]


def measure(scratch: Path, rounds: int) -> list[Line]:
    """Return description, measured value and aim of each measurement."""
    directory = scratch / "migrations"
    directory.mkdir()
    directory.chmod(0o755)
    many = write_folder(directory / "many", MANY, tables)
    server = DurableServer(scratch / "migrations-server")
    contest = Contest(server, _modules())
    with server.running():
        return [
            contest.many(many, rounds),
            contest.groups(many, write_folder(directory / "groups", MANY, grouped), rounds),
            *_many_in_memory(many, rounds),
            *contest.nothing(write_folder(directory / "huge", HUGE, small), rounds),
            contest.failure(write_folder(directory / "broken", MANY, _one_broken), rounds),
            contest.memory(directory / "huge"),
            contest.start(many, rounds),
        ]


def _many_in_memory(folder: Path, rounds: int) -> list[Line]:
    """Measure the same with the server's files in memory: on a disk, creating 6,000 files can dominate the time."""
    if not MEMORY.is_dir():
        return []
    with tempfile.TemporaryDirectory(prefix="mosaic-bench-", dir=MEMORY) as scratch:
        Path(scratch).chmod(0o755)
        server = DurableServer(Path(scratch) / "server")
        with server.running():
            _, value, aim = Contest(server, _modules()).many(folder, rounds)
    return [("… the same with the server's files in memory", value, aim)]


def _one_broken(number: int) -> list[str]:
    return [BROKEN] if number == MANY // 2 else [f"CREATE TABLE t{number} (id integer);"]


def _modules() -> Path | None:
    """Return the directory with drizzle-orm, None if it cannot run."""
    modules = Path(os.environ.get("MOSAIC_GATEWAY_TEST_INTEROP", INTEROP)) / "node_modules"
    return modules if shutil.which("node") and modules.is_dir() else None


@dataclass(frozen=True, slots=True)
class Contest:
    """The contenders on ``server``; drizzle-orm is in ``modules``, None without it."""

    server: DurableServer
    modules: Path | None

    def many(self, folder: Path, rounds: int) -> Line:
        """Measure all migrations on an empty database."""
        contenders = {"runner": self._runner, "floor": self._floor, "drizzle": self._drizzle, "psql": self._psql}
        times = self._rounds("many", {k: c for k, c in contenders.items() if k != "drizzle" or self.modules},
                             lambda run: run(folder, self.server.create_database()), rounds)  # fmt: skip
        value = f"{_median(times['runner'])} s = {_ratio(times, 'floor')} × the floor ({_median(times['floor'])} s)"
        if self.modules:
            value += f", {_ratio(times, 'drizzle')} × drizzle-orm 0.45 ({_median(times['drizzle'])} s)"
        value += f", {_ratio(times, 'psql')} × `psql -1 -f` ({_median(times['psql'])} s)"
        return (
            f"{MANY:,} migrations × 3 statements, each exact, fsync on; floor: the SQL alone, each statement committed",
            value,
            "≤ 1.2 × the floor, ≤ 0.5 × drizzle-orm, ≤ 1.0 × psql",
        )

    def groups(self, single: Path, together: Path, rounds: int) -> Line:
        """Measure the same with a group in each migration."""
        contenders: dict[str, Run] = {
            "runner": lambda _folder, database: self._runner(together, database),
            "single": self._runner,
            "floor": self._floor,
        }
        times = self._rounds("groups", contenders, lambda run: run(single, self.server.create_database()), rounds)
        value = f"{_median(times['runner'])} s = {_ratio(times, 'single')} × the line above in the same rounds"
        value += f" ({_median(times['single'])} s), {_ratio(times, 'floor')} × the floor ({_median(times['floor'])} s)"
        return "… with the three statements of each migration in one transaction", value, "≤ 1.0 ×"

    def start(self, folder: Path, rounds: int) -> Line:
        """Measure the whole process of ``storage migrate`` with nothing to do; floor: Python with one query."""
        database = self.server.create_database()
        with self.server.connect(database) as connection:
            fill_ledger(connection, folder, MANY)
        words = MeasuredHome.command(
            "storage", "migrate", "--from", str(folder), "--database-url", self.server.conninfo(database)
        )
        query = [sys.executable, "-P", "-c", ONE_QUERY, self.server.conninfo(database)]
        contenders: dict[str, Run] = {
            "runner": lambda _folder, _database: _timed(words),
            "floor": lambda _folder, _database: _timed(query),
        }
        times = self._rounds("start", contenders, lambda run: run(folder, database), rounds)
        value = f"{_median(times['runner'])} s = {_ratio(times, 'floor')} × the floor ({_median(times['floor'])} s)"
        what = f"`storage migrate` with nothing to do, {MANY:,} applied; floor: Python, psycopg and one query"
        return what, value, "≤ 0.25 s"

    def nothing(self, folder: Path, rounds: int) -> list[Line]:
        """Measure runs without pending migrations: the check alone, and with reading all files."""
        database = self.server.create_database()
        with self.server.connect(database) as connection:
            fill_ledger(connection, folder, HUGE)
        contenders: dict[str, Run] = {"check": self._check, "runner": self._runner}
        if self.modules:
            contenders["drizzle"] = self._drizzle
        times = self._rounds("nothing", contenders, lambda run: run(folder, database), rounds)
        check, whole = f"{1000 * statistics.median(times['check']):.0f} ms", f"{_median(times['runner'])} s"
        if self.modules:
            drizzle = f"drizzle-orm 0.45 ({_median(times['drizzle'])} s)"
            ratio = statistics.median(a / b for a, b in zip(times["check"], times["drizzle"], strict=True))
            check += f" = {ratio:.2f} × {drizzle}"
            whole += f" = {_ratio(times, 'drizzle')} × {drizzle}"
        what = f"nothing to do, {HUGE:,} applied"
        return [
            (f"{what}: check on an open connection, bundle loaded", check, "≤ 30 ms, ≤ 0.2 × drizzle-orm"),
            ("… with reading and hashing its files (drizzle-orm's time always has that)", whole, "–"),
        ]

    def failure(self, folder: Path, rounds: int) -> Line:
        """Measure the time from the server's log line to the complete error of the runner."""
        bundle = Bundle.from_directory(folder)
        delays = []
        for number in range(rounds):
            with self.server.connect(self.server.create_database()) as connection:
                try:
                    migrate(bundle, connection)
                except StatementFailedError as error:
                    raised = time.time()
                    if error.applied != tuple(m.tag for m in bundle.migrations[: MANY // 2]):
                        raise
            delays.append(raised - self.server.error_time())
            _print_progress("failure", number, f"{1000 * delays[-1]:.1f} ms")
        value = f"{1000 * statistics.median(delays):.1f} ms (at most {1000 * max(delays):.1f} ms)"
        return f"one failing statement in {MANY:,}: the runner's error after PostgreSQL's", value, "≤ 50 ms"

    def memory(self, folder: Path) -> Line:
        """Measure the peak over the bare interpreter, in new processes with all, half and none of the files applied."""
        peaks = []
        for applied in (HUGE, HUGE // 2, 0):
            database = self.server.create_database()
            with self.server.connect(database) as connection:
                fill_ledger(connection, folder, applied)
            script = Path(__file__).with_name("migrations_memory.py")
            words = [sys.executable, str(script), str(folder), self.server.conninfo(database)]
            done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=LIMIT)
            figures = json.loads(done.stdout)
            if figures["applied"] != HUGE - applied:
                raise RuntimeError(done.stdout)
            peaks.append((figures["peak"] - figures["bare"]) / (1 << 20))
            _print_progress("memory", applied, f"{peaks[-1]:.1f} MB")
        value = " / ".join(f"{peak:.0f}" for peak in peaks) + " MB"
        return (
            f"memory over the bare interpreter, bundle of {HUGE:,}; 0 / {HUGE // 2:,} / {HUGE:,} to run",
            value,
            "≤ 60 MB, flat",
        )

    def _rounds(
        self, name: str, contenders: Mapping[str, Run], call: Callable[[Run], float], rounds: int
    ) -> dict[str, list[float]]:
        times: dict[str, list[float]] = {contender: [] for contender in contenders}
        order = list(contenders)
        for number in range(rounds + 1):
            seconds = {contender: call(contenders[contender]) for contender in order}
            order.append(order.pop(0))
            if number:  # the first round fills the caches
                for contender in contenders:
                    times[contender].append(seconds[contender])
            _print_progress(
                name, number, ", ".join(f"{contender} {seconds[contender]:.3f} s" for contender in contenders)
            )
        return times

    def _runner(self, folder: Path, database: str) -> float:
        seen: list[Event] = []
        with self.server.connect(database) as connection:
            start = time.perf_counter()
            bundle = Bundle.from_directory(folder)
            report = migrate(bundle, connection, on_event=seen.append)
            seconds = time.perf_counter() - start
        if sum(isinstance(event, StatementApplied) for event in seen) != 3 * len(report.applied):
            raise RuntimeError("progress was not reported")
        return seconds

    def _floor(self, folder: Path, database: str) -> float:
        """Send the statements alone, as many in a message as the runner sends, and flush once a message."""
        texts = [
            statement.sql.rstrip(";") for m in Bundle.from_directory(folder).migrations for statement in m.statements
        ]
        end = "SET LOCAL synchronous_commit = on;COMMIT;"
        messages = [
            "".join(f"BEGIN;{text};COMMIT;" for text in texts[at : at + LARGEST]).removesuffix("COMMIT;") + end
            for at in range(0, len(texts), LARGEST)
        ]
        with self.server.connect(database) as connection:
            connection.execute("SET synchronous_commit = off")
            start = time.perf_counter()
            for message in messages:
                if (error := send(connection, message).error) is not None:
                    raise RuntimeError(error.message)
            return time.perf_counter() - start

    def _check(self, folder: Path, database: str) -> float:
        bundle = Bundle.from_directory(folder)
        with self.server.connect(database) as connection:
            connection.execute("SELECT 1")
            start = time.perf_counter()
            report = migrate(bundle, connection)
            seconds = time.perf_counter() - start
        if report.applied:
            raise RuntimeError("there were pending migrations")
        return seconds

    def _drizzle(self, folder: Path, database: str) -> float:
        words = ["node", str(INTEROP / "migrate.mjs"), "045", str(folder), self.server.url(database)]
        done = subprocess.run(
            words, check=True, capture_output=True, text=True, timeout=LIMIT,
            env={**os.environ, "NODE_PATH": str(self.modules)},
        )  # fmt: skip
        outcome = json.loads(done.stdout)
        if not outcome["ok"]:
            raise RuntimeError(done.stdout)
        return float(outcome["seconds"])

    def _psql(self, folder: Path, database: str) -> float:
        options = ["-q", "-X", "-1", "-v", "ON_ERROR_STOP=1", "-d", self.server.conninfo(database)]
        start = time.perf_counter()
        subprocess.run(
            [self.server.bindir / "psql", *options, "-f", folder.with_suffix(".psql")], check=True, timeout=LIMIT
        )
        return time.perf_counter() - start


def _timed(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT)
    return time.perf_counter() - start


Run = Callable[[Path, str], float]


def _median(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f}"


def _ratio(times: Times, other: str) -> str:
    return f"{statistics.median(a / b for a, b in zip(times['runner'], times[other], strict=True)):.2f}"


def _print_progress(name: str, number: int, text: str) -> None:
    """Print the progress of a measurement, and the load of the machine."""
    print(f"migrations, {name} {number}: {text}; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
