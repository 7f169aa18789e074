"""The real drizzle-orm, run in Node.js on folders created from the packaged bundles."""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg

import mosaic_gateway
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.matching import drizzle_name
from mosaic_gateway.migrations.model import Migration

HERE = Path(__file__).parent
SQL = Path(mosaic_gateway.__file__).parent / "sql"
LIMIT = 60.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a run of drizzle's migrator; ``code`` is the SQLSTATE of its error."""

    ok: bool
    seconds: float
    code: str | None = None
    message: str = ""
    query: str | None = None


@dataclass(slots=True)
class Drizzle:
    """drizzle-orm of ``version`` (``045`` or ``1``): one process of Node.js, which runs its migrator on request.

    ``modules`` is the directory of its packages.
    """

    version: str
    modules: Path
    process: subprocess.Popen[bytes]
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _outcomes: dict[int, Outcome] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, version: str, modules: Path) -> Iterator[Self]:
        """Start the process for the block; its packages are in *modules*."""
        process = subprocess.Popen(
            ["node", str(HERE / "migrate.mjs"), version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # select sees every line
            env={**os.environ, "NODE_PATH": str(modules)},
        )
        try:
            yield cls(version, modules, process)
        finally:
            process.kill()
            process.communicate()

    def run(self, folder: Path, conninfo: str, *, bundle: str = "gateway") -> Outcome:
        """Run the migrator and return its result."""
        return self.finish(self.start(folder, conninfo, bundle=bundle))

    def start(self, folder: Path, conninfo: str, *, bundle: str = "gateway") -> int:
        """Start the migrator and return the number of the run, for `finish`."""
        number, ledger = next(self._numbers), LEDGERS[bundle]
        job = {"id": number, "folder": str(folder), "url": url(conninfo), "table": ledger.table}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({**job, "schema": ledger.schema}).encode() + b"\n")
        return number

    def finish(self, number: int) -> Outcome:
        """Wait for the run *number* and return its result."""
        output = self.process.stdout
        assert output is not None
        while number not in self._outcomes:
            ready, _, _ = select.select([output], [], [], LIMIT)
            assert ready, f"drizzle-orm did not finish within {LIMIT:g} s"
            line = output.readline()
            assert line, "Node.js exited"
            outcome = json.loads(line)
            run = outcome.pop("id")
            self._outcomes[run] = Outcome(**outcome)
        return self._outcomes.pop(number)

    def folder(self, path: Path, migrations: list[tuple[Migration, bytes]]) -> Path:
        """Write *migrations* to *path* in the format of this version of drizzle-kit, and return *path*."""
        if self.version == "1":
            for migration, content in migrations:
                directory = path / drizzle_name(migration)
                directory.mkdir(parents=True)
                (directory / "migration.sql").write_bytes(content)
            return path
        (path / "meta").mkdir(parents=True)
        entries = [
            {"idx": index, "version": "7", "when": migration.when, "tag": migration.tag, "breakpoints": True}
            for index, (migration, _) in enumerate(migrations)
        ]
        journal = {"version": "7", "dialect": "postgresql", "entries": entries}
        (path / "meta" / "_journal.json").write_text(json.dumps(journal))
        for migration, content in migrations:
            (path / f"{migration.tag}.sql").write_bytes(content)
        return path

    def packaged(self, path: Path, count: int | None = None, *, bundle: str = "gateway") -> Path:
        """Write the first *count* migrations of the packaged *bundle* to *path*."""
        migrations = Bundle.load(bundle).migrations[:count]
        return self.folder(path, [(m, (SQL / bundle / f"{m.tag}.sql").read_bytes()) for m in migrations])


def url(conninfo: str) -> str:
    """Return *conninfo* as a URL for migrate.mjs."""
    parts = psycopg.conninfo.conninfo_to_dict(conninfo)
    location = f"localhost:{parts['port']}/{quote(str(parts['dbname']))}?host={quote(str(parts['host']), safe='')}"
    return f"postgres://{quote(str(parts['user']))}@{location}"
