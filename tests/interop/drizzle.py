"""The real drizzle-orm, run in Node.js on folders created from the packaged bundles."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
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


@dataclass(frozen=True, slots=True)
class Drizzle:
    """drizzle-orm of ``version`` (``045`` or ``1``), with its packages in ``modules``."""

    version: str
    modules: Path

    def run(self, folder: Path, conninfo: str, *, bundle: str = "gateway") -> Outcome:
        """Run the migrator and return its result."""
        with self.started(folder, conninfo, bundle=bundle) as process:
            return self.finish(process)

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Outcome:
        """Wait for the migrator and return its result."""
        output, errors = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, errors
        return Outcome(**json.loads(output))

    @contextmanager
    def started(self, folder: Path, conninfo: str, *, bundle: str = "gateway") -> Iterator[subprocess.Popen[str]]:
        """Run the migrator concurrently with the block."""
        ledger = LEDGERS[bundle]
        command = ["node", str(HERE / "migrate.mjs"), self.version, str(folder), url(conninfo)]
        process = subprocess.Popen(
            [*command, ledger.table, ledger.schema],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "NODE_PATH": str(self.modules)},
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

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
