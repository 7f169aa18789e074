"""doctor: well where all is well, and each fault found, named and left alone."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import mosaic_gateway
import mosaic_gateway_installer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.installer.conftest import MakeSite, Result, Site

CHECKS = ["settings", "package", "receipt", "owner and modes", "secret", "programs", "cluster", "gateway", "schema"]


@pytest.fixture(scope="module")
def patient(make_site: MakeSite) -> Site:
    """Return a running site; each test takes its harm back."""
    made = make_site()
    made.installed()
    return made


def _faults(done: Result) -> dict[str, str]:
    findings: list[dict[str, Any]] = done.envelope["result"]["findings"]
    assert all(finding["hint"] for finding in findings if finding["ok"] is False)
    return {finding["check"]: finding["code"] for finding in findings if finding["ok"] is False}


def test_a_healthy_installation_has_no_fault(patient: Site) -> None:
    """Every check is told, each is ok, and nothing was written."""
    before = {path.name: path.lstat().st_mtime_ns for path in patient.path.iterdir()}
    done = patient.json("doctor")
    assert [finding["check"] for finding in done.result["findings"]] == CHECKS
    assert all(finding["ok"] for finding in done.result["findings"])
    assert {path.name: path.lstat().st_mtime_ns for path in patient.path.iterdir()} == before


@contextmanager
def _mode_opened(site: Site) -> Iterator[None]:
    site.home.auth_secret.chmod(0o644)
    yield
    site.home.auth_secret.chmod(0o600)


@contextmanager
def _renamed(path: Path) -> Iterator[None]:
    away = path.with_name("away")
    path.rename(away)
    yield
    away.rename(path)


@contextmanager
def _journal_left(site: Site) -> Iterator[None]:
    site.home.journal.touch(0o600)
    yield
    site.home.journal.unlink()


@contextmanager
def _config_broken(site: Site) -> Iterator[None]:
    before = site.home.config_file.read_bytes()
    site.home.config_file.write_text("port = 'many'")
    yield
    site.home.config_file.write_bytes(before)


HARMS: dict[str, tuple[Callable[[Site], Any], dict[str, str]]] = {
    "a secret open to others": (_mode_opened, {"owner and modes": "HOME_MODE"}),
    "no secret": (lambda site: _renamed(site.home.auth_secret), {"secret": "NOT_INSTALLED"}),
    "no programs": (lambda site: _renamed(site.home.runtime), {"programs": "RUNTIME_MISSING"}),
    "a journal left behind": (_journal_left, {"receipt": "INSTALL_INCOMPLETE"}),
    "broken settings": (_config_broken, {"settings": "CONFIG_INVALID"}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_each_fault_is_found(patient: Site, harm: str) -> None:
    """Exactly the harmed part is a fault, with exit code 3."""
    make, expected = HARMS[harm]
    with make(patient):
        done = patient.json("doctor")
    assert done.code == 3
    assert done.error["code"] == "FAULTS_FOUND"
    assert _faults(done) == expected


def test_pending_migrations_are_found(make_site: MakeSite, database: str) -> None:
    """A database that has none of them yet is told with the first tag and what to run."""
    site = make_site()
    site.installed("--no-start", "--database-url", database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA drizzle CASCADE")
        connection.execute("DROP SCHEMA mosaic CASCADE")
    done = site.json("doctor")
    assert _faults(done) == {"gateway": "NOT_READY", "schema": "SCHEMA_PENDING"}
    assert "0000_auth" in done.out


def test_a_stopped_gateway_is_a_fault_and_its_schema_unknown(make_site: MakeSite) -> None:
    """What cannot be asked is said to be unchecked, not well."""
    site = make_site()
    site.installed("--no-start")
    done = site.json("doctor")
    assert _faults(done) == {"gateway": "NOT_READY"}
    assert done.envelope["result"]["findings"][-1]["ok"] is None


def test_an_altered_package_is_a_fault(patient: Site, tmp_path: Path) -> None:
    """One changed byte in the SQL that came with the package is found without a database."""
    for package in (mosaic_gateway, mosaic_gateway_installer):
        source = Path(str(package.__file__)).parent
        shutil.copytree(source, tmp_path / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "mosaic_gateway/sql/gateway/0000_auth.sql").open("a") as stream:
        stream.write("-- altered\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [patient.environ.get("PYTHONPATH")])])
    done = patient.json("doctor", PYTHONPATH=path)
    assert done.code == 3
    assert "package" in _faults(done)
    assert "0000_auth.sql" in done.out


def test_where_nothing_is_installed_there_is_nothing_to_examine(make_site: MakeSite) -> None:
    """A home that was never installed has no findings, only that error."""
    done = make_site().json("doctor")
    assert (done.code, done.error["code"]) == (3, "NOT_INSTALLED")
    assert os.linesep not in done.err.strip()
