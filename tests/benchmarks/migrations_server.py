"""A durable PostgreSQL for measurements, and generated folders of migrations to run on it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from mosaic_gateway.engines.postgres.runtime import install_runtime
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.command import die_with_parent

USER = "bench"
INITDB = ("-U", USER, "-E", "UTF8", "--locale=C", "--auth=trust", "--no-instructions")
#: Everything that durability needs is on by default; %n is the time of a log line in seconds since the epoch.
SETTINGS = ("listen_addresses=", "dynamic_shared_memory_type=mmap", "autovacuum=off", "log_line_prefix=%n ")
LIMIT = 30.0  # seconds
FIRST_WHEN = 1745280000000
MARK = "--> statement-breakpoint\n"


class DurableServer:
    """A new server in *directory* with fsync on; start it with `running`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700)
        self.bindir = install_runtime(Home(directory), postgres_bin=None).bindir
        self._databases = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the server for the length of the block."""
        data = self._directory / "cluster"
        subprocess.run([self.bindir / "initdb", "-D", data, *INITDB], check=True, stdout=subprocess.DEVNULL, cwd="/")
        words = [f"-c{setting}" for setting in (*SETTINGS, f"unix_socket_directories={self._directory}")]
        with (self._directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [self.bindir / "postgres", "-D", data, *words], stdout=log, stderr=log, cwd="/",
                preexec_fn=die_with_parent(signal.SIGQUIT),  # noqa: PLW1509 - loads libc before the fork
            )  # fmt: skip
        try:
            self._wait()
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(LIMIT)

    def _wait(self) -> None:
        deadline = time.monotonic() + LIMIT
        while True:
            try:
                self.connect("postgres").close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
            else:
                return

    def conninfo(self, database: str) -> str:
        """Return the libpq conninfo of *database*."""
        return psycopg.conninfo.make_conninfo(host=str(self._directory), port=5432, user=USER, dbname=database)

    def url(self, database: str) -> str:
        """Return the URL of *database* in the form that tests/interop/migrate.mjs takes."""
        return f"postgres://{USER}@localhost:5432/{database}?host={self._directory}"

    def connect(self, database: str) -> psycopg.Connection:
        """Open an autocommit connection."""
        return psycopg.connect(self.conninfo(database), autocommit=True)

    def create_database(self) -> str:
        """Create a database with a new name, flush everything, and return the name."""
        self._databases += 1
        name = f"bench_{self._databases}"
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            connection.execute("CHECKPOINT")
        os.sync()  # so that the next run does not wait for writes of earlier ones
        return name

    def error_time(self) -> float:
        """Return the time at which the server logged its last ERROR, in seconds since the epoch."""
        lines = (self._directory / "log").read_text(errors="replace").splitlines()
        return float([line for line in lines if " ERROR:" in line][-1].split()[0])


def tables(number: int) -> list[str]:
    """Return three typical statements of a migration."""
    return [
        f"CREATE TABLE t{number} (id serial PRIMARY KEY, name text NOT NULL, created_at timestamp DEFAULT now());",
        f"CREATE INDEX t{number}_name ON t{number} (name);",
        f"ALTER TABLE t{number} ADD COLUMN note text;",
    ]


def grouped(number: int) -> list[str]:
    """Return the statements of `tables`, of which the first makes them share one transaction."""
    first, *others = tables(number)
    return [f"SET LOCAL lock_timeout = '5s'; {first}", *others]


def small(number: int) -> list[str]:
    """Return three statements that are cheap for the server."""
    return [f"SELECT {number}, 'statement {part} of a migration that selects some text';" for part in range(3)]


def write_folder(path: Path, count: int, statements: Callable[[int], list[str]]) -> Path:
    """Write *count* migrations in drizzle-kit's format, and all of them together into one file ``.psql`` next to it."""
    (path / "meta").mkdir(parents=True)
    entries = []
    texts = []
    for number in range(count):
        tag = f"{number:05}_migration"
        text = MARK.join(f"{statement}\n" for statement in statements(number))
        (path / f"{tag}.sql").write_text(text)
        entries.append({"idx": number, "version": "7", "when": FIRST_WHEN + number, "tag": tag, "breakpoints": True})
        texts.append(text.replace(MARK, ""))
    (path / "meta" / "_journal.json").write_text(
        json.dumps({"version": "7", "dialect": "postgresql", "entries": entries})
    )
    path.with_suffix(".psql").write_text("".join(texts))
    return path


def fill_ledger(connection: psycopg.Connection, folder: Path, count: int) -> None:
    """Record the first *count* migrations of *folder* as drizzle-orm 0.45 does, without running them."""
    entries = json.loads((folder / "meta" / "_journal.json").read_text())["entries"][:count]
    hashes = [hashlib.sha256((folder / f"{entry['tag']}.sql").read_bytes()).hexdigest() for entry in entries]
    connection.execute("CREATE SCHEMA drizzle")
    connection.execute(
        "CREATE TABLE drizzle.__drizzle_migrations (id serial PRIMARY KEY, hash text NOT NULL, created_at bigint)"
    )
    connection.execute(
        "INSERT INTO drizzle.__drizzle_migrations (hash, created_at) SELECT * FROM unnest(%s::text[], %s::bigint[])",
        (hashes, [entry["when"] for entry in entries]),
    )
    connection.execute("ANALYZE drizzle.__drizzle_migrations")
