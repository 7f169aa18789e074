"""The real drizzle-orm, run in Node.js on folders created from the packaged bundles, against a test PostgreSQL.

``_modules``                  The directory of the npm packages, better-auth among them.

``drizzle045``, ``drizzle1``  drizzle-orm 0.45 and 1.0.
``second_database``           Another empty database.
``schema_of``                 Returns pg_dump's output for the schema ``public`` of a database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interop.drizzle import HERE, LIMIT, Drizzle
from tests.support.postgres_server import PostgresServer

MODULES_VARIABLE = "MOSAIC_GATEWAY_TEST_INTEROP"  # the directory of node_modules; defaults to this directory


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
def drizzle045(_modules: Path) -> Iterator[Drizzle]:
    """Run drizzle-orm 0.45."""
    with Drizzle.open("045", _modules) as opened:
        yield opened


@pytest.fixture(scope="session")
def drizzle1(_modules: Path) -> Iterator[Drizzle]:
    """Run drizzle-orm 1.0."""
    with Drizzle.open("1", _modules) as opened:
        yield opened


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
