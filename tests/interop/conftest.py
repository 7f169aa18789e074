"""The real drizzle-orm, run in Node.js on folders created from the packaged bundles, against a test PostgreSQL.

``drizzle045``, ``drizzle1``  drizzle-orm 0.45 and 1.0.
``second_database``           Another empty database.
``schema_of``                 Returns pg_dump's output for the schema ``public`` of a database.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
import pytest

import mosaic_gateway
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle
from mosaic_gateway.migrations.ledger import drizzle_name
from mosaic_gateway.migrations.model import Migration

if TYPE_CHECKING:
    from tests.conftest import PostgresServer

HERE = Path(__file__).parent
SQL = Path(mosaic_gateway.__file__).parent / "sql"
LIMIT = 60.0  # seconds
MODULES_VARIABLE = "MOSAIC_GATEWAY_TEST_INTEROP"  # the directory of node_modules; defaults to this directory


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


@pytest.fixture(scope="session")
def _modules() -> Path:
    modules = Path(os.environ.get(MODULES_VARIABLE) or HERE) / "node_modules"
    if shutil.which("node") is None:
        pytest.skip("no Node.js on this machine: drizzle-orm cannot run")
    if not modules.is_dir() and MODULES_VARIABLE not in os.environ:
        pytest.skip(f"drizzle-orm is not installed: run tox -e interop, or install.py {HERE.name} in {HERE.name}")
    assert modules.is_dir(), f"{modules}: run tests/interop/install.py"
    return modules


@pytest.fixture(scope="session")
def drizzle045(_modules: Path) -> Drizzle:
    """Return drizzle-orm 0.45."""
    return Drizzle("045", _modules)


@pytest.fixture(scope="session")
def drizzle1(_modules: Path) -> Drizzle:
    """Return drizzle-orm 1.0."""
    return Drizzle("1", _modules)


@pytest.fixture(params=["drizzle045", "drizzle1"])
def drizzle(request: pytest.FixtureRequest) -> Drizzle:
    """Return drizzle-orm 0.45 and 1.0 in turn."""
    version: Drizzle = request.getfixturevalue(request.param)
    return version


@pytest.fixture
def second_database(postgres_server: PostgresServer) -> str:
    """Return the conninfo of another empty database."""
    return postgres_server.conninfo(postgres_server.create_database())


@pytest.fixture
def schema_of(postgres_bin: Path) -> Callable[[str], str]:
    """Return a function that returns the SQL of the schema ``public`` of a database, from pg_dump."""

    def dump(conninfo: str) -> str:
        options = ["--schema-only", "--schema=public", "--no-owner", "--restrict-key=interop", f"--dbname={conninfo}"]
        done = subprocess.run(
            [postgres_bin / "pg_dump", *options], capture_output=True, text=True, check=True, timeout=LIMIT
        )
        assert "CREATE TABLE" in done.stdout
        return done.stdout

    return dump
