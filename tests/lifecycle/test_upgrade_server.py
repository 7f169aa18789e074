"""Upgrades where the database is on a PostgreSQL server, which other gateways may use as well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import SYSTEM_SERVERS, PostgresServer
from tests.installer.conftest import MakeSite, Site
from tests.lifecycle.wheels import build_wheel

OLD, NEW, GOOD, BAD = "0.0.9", "0.1.0", "0.2.0", "0.3.0"
Version = Callable[[str], Path]
PEOPLE = "SELECT name FROM users ORDER BY 1"


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> str:
    """Return the conninfo of a fresh database."""
    return postgres_server.conninfo(postgres_server.create_database())


@pytest.fixture
def gateway(make_site: MakeSite, version: Version, database_url: str) -> Callable[[], Site]:
    """Return what installs a gateway of the old version on the server."""

    def make() -> Site:
        site = make_site()
        done = site.install(DATABASE_URL=database_url, PYTHONPATH=str(version(OLD)))
        assert done.code == 0, done.out
        return site

    return make


def _upgrade(site: Site, place: Path, *words: str) -> Any:
    return site.json("upgrade", *words, PYTHONPATH=str(place))


@contextmanager
def _stopped(site: Site, place: Path) -> Iterator[None]:
    assert site.json("stop", PYTHONPATH=str(place)).code == 0
    yield
    assert site.json("start", PYTHONPATH=str(place)).code == 0


def test_the_others_keep_serving(gateway: Callable[[], Site], version: Version) -> None:
    """A dump is made; a gateway of the version before serves on from the same database until it is upgraded itself."""
    first, second = gateway(), gateway()
    done = _upgrade(first, version(NEW)).result
    assert "backup" in [step["id"] for step in done["steps"]]
    assert (first.path / "backups" / done["backup"] / "data" / "database.dump").exists()
    assert first.request("GET", "/readyz")[1]["version"] == NEW
    assert second.request("GET", "/readyz")[1]["version"] == OLD
    assert second.request("GET", "/api/bootstrap/status") == (200, {"needsSetup": True})
    late = second.json("restart", PYTHONPATH=str(version(NEW)))
    assert (late.code, late.error["code"]) == (7, "DATABASE_NEWER")
    followed = _upgrade(second, version(NEW), "--no-backup").result
    assert "backup" not in [step["id"] for step in followed["steps"]]
    assert second.json("start", PYTHONPATH=str(version(NEW))).code == 0
    assert second.request("GET", "/readyz")[1]["version"] == NEW


def test_a_failure_leaves_the_dump_and_says_so(
    gateway: Callable[[], Site], version: Version, postgres_server: PostgresServer
) -> None:
    """The program goes back; the data is others' as well, so it stays, and the error names the dump."""
    site = gateway()
    failed = _upgrade(site, version(BAD))
    assert failed.code == 4, failed.out
    [dump] = (site.path / "backups").iterdir()
    assert str(dump) in failed.error["message"]
    assert "as the failure left it" in failed.error["message"]
    assert site.receipt()["version"] == OLD


@pytest.mark.lifecycle
def test_what_would_break_the_others_is_refused(gateway: Callable[[], Site], version: Version, tmp_path: Path) -> None:
    """A migration that lint was told to let pass, and another gateway at work: nothing is touched."""
    (tmp_path / "tree").mkdir()
    place = tmp_path / "version"
    wheel = build_wheel(
        tmp_path / "tree", tmp_path, "0.6.0",
        lambda tree: tree.add_migration(
            "gone", "-- lint: allow drop-column nobody reads it any more\nALTER TABLE insights DROP COLUMN source"
        ),
    )  # fmt: skip
    import zipfile  # noqa: PLC0415 - only here

    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    tmp_path.chmod(0o755)
    first, second = gateway(), gateway()
    with _stopped(first, version(OLD)):
        refused = _upgrade(first, place)
        assert (refused.code, refused.error["code"]) == (7, "OTHERS_WOULD_BREAK")
        assert refused.error["details"]["migrations"] == ["0010_gone"]
    assert first.request("GET", "/readyz")[1]["version"] == OLD
    assert second.json("stop", PYTHONPATH=str(version(OLD))).code == 0
    assert _upgrade(first, place).code == 0


@pytest.mark.lifecycle
def test_a_dump_of_an_older_version_is_migrated_as_it_is_restored(
    gateway: Callable[[], Site], version: Version, postgres_server: PostgresServer
) -> None:
    """Into an empty database, by the newer version, which then serves from there."""
    site = gateway()
    created = site.json("backup", "create", PYTHONPATH=str(version(OLD))).result
    other = postgres_server.conninfo(postgres_server.create_database())
    done = site.json("backup", "restore", created["name"], DATABASE_URL=other, PYTHONPATH=str(version(NEW)))
    assert done.code == 0, (done.out, done.err)
    assert site.request("GET", "/readyz")[1]["version"] == NEW
    assert site.receipt()["version"] == NEW


def test_an_installation_over_what_was_kept_dumps_before_it_migrates(
    gateway: Callable[[], Site], version: Version
) -> None:
    """A newer version that finds an older one's database on the server; not where nothing has to be migrated."""
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
def test_an_installation_over_what_was_kept_makes_no_dump_that_is_not_wanted(
    gateway: Callable[[], Site], version: Version
) -> None:
    """Said aloud, as with an upgrade."""
    site = gateway()
    assert site.json("uninstall", PYTHONPATH=str(version(OLD))).code == 0
    done = site.install("--no-backup", PYTHONPATH=str(version(NEW)))
    assert done.code == 0, done.out
    assert "backup" not in [step["id"] for step in done.result["steps"]]
    assert not (site.path / "backups").exists()
    assert site.request("GET", "/readyz")[1]["version"] == NEW


@pytest.mark.lifecycle
def test_a_server_that_cannot_be_dumped_is_not_migrated_before_that_is_said(
    gateway: Callable[[], Site], version: Version
) -> None:
    """The programs at hand are older than the server: nothing is changed, and both ways on are named."""
    site = gateway()
    assert site.json("uninstall", PYTHONPATH=str(version(OLD))).code == 0
    words = ("--postgres-bin", str(SYSTEM_SERVERS["wheel 16"]))
    refused = site.install(*words, PYTHONPATH=str(version(NEW)))
    assert (refused.code, refused.error["code"]) == (3, "DUMP_CLIENT_TOO_OLD"), refused.out
    assert "--postgres-bin DIR" in refused.error["hint"]
    assert "--no-backup" in refused.error["hint"]
    assert site.receipt()["state"] == "kept"
    assert not (site.path / "backups").exists()
    assert site.install(PYTHONPATH=str(version(OLD))).code == 0
