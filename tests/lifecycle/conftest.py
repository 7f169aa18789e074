"""Fixtures for upgrades between versions with real wheels.

``wheelhouse``  Wheels of several versions of the gateway, built from this tree, and of their dependencies (session).
``version``     Unpacks one of them, so that its command line can be run without installing it (session).
``seeded``      Creates homes of the old version, each with an admin, a session, insights with vectors and documents.

Tests marked ``lifecycle`` run only with ``pytest tests/lifecycle --lifecycle``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import make_scratch
from tests.installer.conftest import Site, _place, finish, free_port, make_site
from tests.lifecycle.wheels import Tree, build_wheel, pack_dependencies

from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.database_access import running_database
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.backup.row_checksums import Contents, table_rows

__all__ = ["EMAIL", "NEW", "OLD", "PASSWORD", "Old", "_place", "free_port", "make_site", "rows_of"]

OLD, NEW, GOOD, BAD, NOT_STARTING, NOT_WELL = "0.0.9", "0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"
EMAIL, PASSWORD = "ada@example.com", "correct horse battery staple"
PIP_LIMIT = 180.0  # seconds
INSIGHTS = 200


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option, which exists only if tests/lifecycle is given on the command line."""
    parser.addoption("--lifecycle", action="store_true", help="also run the tests marked lifecycle")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip tests marked ``lifecycle`` without ``--lifecycle``."""
    if not config.getoption("--lifecycle", default=False):
        for item in items:
            if item.get_closest_marker("lifecycle") is not None:
                item.add_marker(pytest.mark.skip(reason="runs with tox -e lifecycle"))


CHANGES: dict[str, tuple[Callable[[Tree], None], ...]] = {
    OLD: (lambda tree: tree.keep_migrations(8),),
    NEW: (),
    GOOD: (
        lambda tree: tree.add_migration(
            "notes",
            "CREATE TABLE notes (id integer PRIMARY KEY, body text NOT NULL)",
            "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 10) AS n",
        ),
    ),
    BAD: (
        lambda tree: tree.add_migration("loud", "UPDATE users SET name = upper(name)", "DELETE FROM insights"),
        lambda tree: tree.add_migration("broken", "ALTER TABLE users ADD COLUMN extra integer", "SELECT 1 / 0"),
    ),
    NOT_STARTING: (
        lambda tree: tree.add_migration("loud", "UPDATE users SET name = upper(name)"),
        lambda tree: tree.replace(
            "src/mosaic_gateway/gateway/app.py",
            "def create_app(",
            "raise RuntimeError('deliberate failure')\n\n\ndef create_app(",
        ),
    ),
    NOT_WELL: (
        lambda tree: tree.add_migration("loud", "UPDATE users SET name = upper(name)"),
        lambda tree: tree.replace("src/mosaic_gateway/gateway/routes_bootstrap.py", '"needsSetup"', '"needsAdmin"'),
    ),
}


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the wheels of all versions of the gateway, and of their dependencies."""
    wheels, trees = tmp_path_factory.mktemp("wheelhouse"), tmp_path_factory.mktemp("trees")
    for version, changes in CHANGES.items():
        build_wheel(trees, wheels, version, *changes)
    pack_dependencies(wheels)
    return wheels


@pytest.fixture(scope="session")
def version(wheelhouse: Path, scratch_root: Path) -> Callable[[str], Path]:
    """Return a function that unpacks a version's wheel, once, into a directory for PYTHONPATH."""

    def unpack(name: str) -> Path:
        target = scratch_root / f"version-{name}"
        if not target.exists():
            wheel = wheelhouse / f"mosaic_gateway-{name}-py3-none-any.whl"
            words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"]
            subprocess.run([sys.executable, *words, target, wheel], check=True, capture_output=True, timeout=PIP_LIMIT)
            target.chmod(0o755)
        return target

    return unpack


@dataclass
class Old(Site):
    """A home of the old version, run by its own program. ``before`` are its rows before the upgrade."""

    before: Contents = ()
    before_documents: tuple[Any, ...] = ()
    cookie: str = ""

    def run_version(self, package: Path, *words: str, **options: Any) -> Any:
        """Run a verb with the version that is unpacked in *package*."""
        return self.run(*words, "--json", PYTHONPATH=str(package), **options)

    def popen_version(self, package: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a verb with the version that is unpacked in *package*."""
        return self.popen(*words, "--json", PYTHONPATH=str(package), **options)

    def rows(self) -> Contents:
        """Return count and checksum of every table, except for the documents."""
        return rows_of(self)

    def documents(self) -> list[Any]:
        """Return the documents that the tests have created."""
        return documents_of(self)

    def session(self) -> Any:
        """Return the session of the cookie from before the upgrade."""
        return self.request_with(self.cookie, "/api/auth/get-session")

    def request_with(self, cookie: str, path: str) -> Any:
        """Send a GET request with *cookie*, and return the decoded JSON body."""
        import http.client  # noqa: PLC0415 - only here

        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", path, headers={"cookie": cookie})
            return json.loads(connection.getresponse().read() or "null")


def rows_of(site: Site) -> Contents:
    """Return count and checksum of every table of a running gateway's database, except for the documents."""
    with closing(_connect(site)) as connection:
        return tuple(rows for rows in table_rows(connection) if "documents" not in rows.table)


def documents_of(site: Site) -> list[Any]:
    """Return the documents of a running gateway's database that the tests have created."""
    with closing(_connect(site)) as connection:
        return list(
            connection.execute("SELECT * FROM storage_documents WHERE collection = 'tests' ORDER BY collection, key")
        )


def _connect(site: Site) -> Any:
    conninfo = running_database(site.home, EngineName(site.receipt()["engine"]))
    assert conninfo is not None, "the database is not running"
    return connect(conninfo, application_name="test")


@pytest.fixture(scope="session")
def _template(
    ordinary_user: None, scratch_root: Path, version: Callable[[str], Path], free_port: Callable[[], int]
) -> Iterator[Old]:
    """A stopped home of the old version with data in it, and a saved copy of it."""
    directory = make_scratch(scratch_root, "old")
    site = seeded_home(directory, version(OLD), free_port())
    yield site
    site.close()


def seeded_home(directory: Path, package: Path, port: int, **environ: str) -> Old:
    """Install the version in *package* into *directory*, fill it, stop it, and save a copy for `restore_saved_home`."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MOSAIC_GATEWAY_", "PG"))}
    site = Old(directory / "home", port, {**clean, **environ})
    done = site.run(*site.install_words(), PYTHONPATH=str(package))
    assert done.code == 0, (done.out, done.err)
    _seed(site, package)
    site.cookie = _sign_in(site)
    site.before, site.before_documents = rows_of(site), tuple(documents_of(site))
    gateway_process.stop(site.home)
    shutil.copytree(site.path, directory / "saved", symlinks=True, copy_function=_copy)
    return site


def restore_saved_home(template: Old) -> Old:
    """Replace a home by the copy that `seeded_home` saved, and start it with its own program."""
    template.close()
    shutil.rmtree(template.path, ignore_errors=True)
    saved = template.path.with_name("saved")
    shutil.copytree(saved, template.path, symlinks=True, copy_function=_copy)
    started = subprocess.run(
        [template.path / "bin/mosaic-gateway", "start"], capture_output=True, timeout=60, check=False
    )
    assert started.returncode == 0, started.stderr
    return template


def _seed(site: Old, package: Path) -> None:
    words = ["bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin"]
    done = site.run_version(package, *words, stdin=PASSWORD)
    assert done.code == 0, done.out
    with closing(_connect(site)) as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute(
            "INSERT INTO insights (id, user_id, content, embedding)"
            " SELECT 'i' || n, (SELECT id FROM users), 'insight ' || n,"
            " (SELECT array_agg(random()) FROM generate_series(1, 1536) WHERE n > 0)::vector"
            f" FROM generate_series(1, {INSIGHTS}) AS n"
        )
        connection.execute(
            "INSERT INTO storage_documents (collection, key, value)"
            " SELECT 'tests', 'k' || n, jsonb_build_object('n', n) FROM generate_series(1, 50) AS n"
        )


def _sign_in(site: Old) -> str:
    import http.client  # noqa: PLC0415 - only here

    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)) as connection:
        body = json.dumps({"email": EMAIL, "password": PASSWORD})
        connection.request("POST", "/api/auth/sign-in/email", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        return "; ".join(value.split(";")[0] for value in response.headers.get_all("set-cookie") or ())


def _copy(source: str, target: str) -> str:
    return str(shutil.copy2(source, target, follow_symlinks=False))


@pytest.fixture
def seeded(_template: Old) -> Iterator[Callable[[], Old]]:
    """Yield a function that restores the seeded home of the old version, and starts it with its own program."""
    yield lambda: restore_saved_home(_template)
    _template.close()


@pytest.fixture
def old(seeded: Callable[[], Old]) -> Old:
    """Return a serving home of the old version."""
    return seeded()


__all__ += ["BAD", "GOOD", "NOT_STARTING", "NOT_WELL", "finish"]
