"""Upgrades with a database on a PostgreSQL server, which other gateways may use as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.lifecycle.wheels import build_wheel
from tests.support.postgres_server import SYSTEM_SERVERS, PostgresServer
from tests.support.site import MakeSite, Site

from mosaic_gateway.installation.receipt import ReceiptState

OLD, NEW, GOOD, BAD = "0.0.9", "0.1.0", "0.2.0", "0.3.0"
Version = Callable[[str], Path]
PEOPLE = "SELECT name FROM users ORDER BY 1"


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> str:
    """Return the conninfo of a fresh database."""
    return postgres_server.conninfo(postgres_server.create_database())


@pytest.fixture
def gateway(make_site: MakeSite, version: Version, database_url: str) -> Callable[[], Site]:
    """Return a function that installs a gateway of the old version on the server."""

    def install() -> Site:
        site = make_site()
        done = site.install(DATABASE_URL=database_url, PYTHONPATH=str(version(OLD)))
        assert done.code == 0, done.out
        return site

    return install


def _upgrade(site: Site, package: Path, *words: str) -> Any:
    return site.json("upgrade", *words, PYTHONPATH=str(package))


@contextmanager
def _stopped(site: Site, package: Path) -> Iterator[None]:
    assert site.json("stop", PYTHONPATH=str(package)).code == 0
    yield
    assert site.json("start", PYTHONPATH=str(package)).code == 0


def test_other_gateways_continue_to_serve(gateway: Callable[[], Site], version: Version) -> None:
    """A dump is created; a gateway of the previous version serves from the same database until its own upgrade."""
    first, second = gateway(), gateway()
    done = _upgrade(first, version(NEW)).result
    assert "backup" in [step["id"] for step in done["steps"]]
    assert (first.path / "backups" / done["backup"] / "data" / "database.dump").exists()
    assert first.request("GET", "/readyz")[1]["version"] == NEW
    assert second.request("GET", "/readyz")[1]["version"] == OLD
    assert second.request("GET", "/api/bootstrap/status") == (200, {"needsSetup": True})
    refused = second.json("restart", PYTHONPATH=str(version(NEW)))
    assert (refused.code, refused.error["code"]) == (7, "DATABASE_NEWER")
    done = _upgrade(second, version(NEW), "--no-backup").result
    assert "backup" not in [step["id"] for step in done["steps"]]
    assert second.json("start", PYTHONPATH=str(version(NEW))).code == 0
    assert second.request("GET", "/readyz")[1]["version"] == NEW


def test_failed_upgrade(gateway: Callable[[], Site], version: Version, postgres_server: PostgresServer) -> None:
    """The program is rolled back; the shared database is not, and the error names the dump."""
    site = gateway()
    failed = _upgrade(site, version(BAD))
    assert failed.code == 4, failed.out
    [dump] = (site.path / "backups").iterdir()
    assert str(dump) in failed.error["message"]
    assert "the database on the server is not rolled back" in failed.error["message"]
    assert site.receipt()["version"] == OLD


@pytest.mark.lifecycle
def test_incompatible_other_gateways(gateway: Callable[[], Site], version: Version, tmp_path: Path) -> None:
    """With an incompatible migration, which a lint comment allows, and another running gateway, nothing is changed."""
    (tmp_path / "tree").mkdir()
    package = tmp_path / "version"
    wheel = build_wheel(
        tmp_path / "tree", tmp_path, "0.6.0",
        lambda tree: tree.add_migration(
            "gone", "-- lint: allow drop-column it is not read any more\nALTER TABLE insights DROP COLUMN source"
        ),
    )  # fmt: skip
    import zipfile  # noqa: PLC0415 - only here

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(package)
    tmp_path.chmod(0o755)
    first, second = gateway(), gateway()
    with _stopped(first, version(OLD)):
        refused = _upgrade(first, package)
        assert (refused.code, refused.error["code"]) == (7, "OTHER_GATEWAYS_INCOMPATIBLE")
        assert refused.error["details"]["migrations"] == ["0010_gone"]
    assert first.request("GET", "/readyz")[1]["version"] == OLD
    assert second.json("stop", PYTHONPATH=str(version(OLD))).code == 0
    assert _upgrade(first, package).code == 0


@pytest.mark.lifecycle
def test_restore_of_an_older_dump(
    gateway: Callable[[], Site], version: Version, postgres_server: PostgresServer
) -> None:
    """The newer version restores the dump into an empty database, migrates it, and serves from it."""
    site = gateway()
    created = site.json("backup", "create", PYTHONPATH=str(version(OLD))).result
    other = postgres_server.conninfo(postgres_server.create_database())
    done = site.json("backup", "restore", created["name"], DATABASE_URL=other, PYTHONPATH=str(version(NEW)))
    assert done.code == 0, (done.out, done.err)
    assert site.request("GET", "/readyz")[1]["version"] == NEW
    assert site.receipt()["version"] == NEW


def test_install_over_retained_data_creates_a_dump(gateway: Callable[[], Site], version: Version) -> None:
    """A newer version dumps the server's database before it migrates; without a migration there is no dump."""
    site = gateway()
    assert site.json("uninstall", PYTHONPATH=str(version(OLD))).code == 0
    same = site.install(PYTHONPATH=str(version(OLD)))
    assert "backup" not in [step["id"] for step in same.result["steps"]], same.out
    assert site.json("uninstall", PYTHONPATH=str(version(OLD))).code == 0
    failed = site.install(PYTHONPATH=str(version(BAD)))
    assert failed.code == 4, failed.out
    [dump] = (site.path / "backups").iterdir()
    assert (dump / "data" / "database.dump").exists()
    assert str(dump) in failed.error["message"]
    verified = site.json("backup", "verify", dump.name, PYTHONPATH=str(version(OLD)))
    assert (verified.code, verified.result["version"]) == (0, OLD), verified.out


@pytest.mark.lifecycle
def test_install_over_retained_data_without_backup(gateway: Callable[[], Site], version: Version) -> None:
    """With --no-backup the database is migrated without a dump."""
    site = gateway()
    assert site.json("uninstall", PYTHONPATH=str(version(OLD))).code == 0
    done = site.install("--no-backup", PYTHONPATH=str(version(NEW)))
    assert done.code == 0, done.out
    assert "backup" not in [step["id"] for step in done.result["steps"]]
    assert not (site.path / "backups").exists()
    assert site.request("GET", "/readyz")[1]["version"] == NEW


@pytest.mark.lifecycle
def test_server_is_newer_than_pg_dump(gateway: Callable[[], Site], version: Version) -> None:
    """If pg_dump is older than the server, nothing is changed, and the hint names --postgres-bin and --no-backup."""
    site = gateway()
    assert site.json("uninstall", PYTHONPATH=str(version(OLD))).code == 0
    words = ("--postgres-bin", str(SYSTEM_SERVERS["wheel 16"]))
    refused = site.install(*words, PYTHONPATH=str(version(NEW)))
    assert (refused.code, refused.error["code"]) == (3, "DUMP_CLIENT_TOO_OLD"), refused.out
    assert "--postgres-bin DIR" in refused.error["hint"]
    assert "--no-backup" in refused.error["hint"]
    assert site.receipt()["state"] == ReceiptState.RETAINED
    assert not (site.path / "backups").exists()
    assert site.install(PYTHONPATH=str(version(OLD))).code == 0
