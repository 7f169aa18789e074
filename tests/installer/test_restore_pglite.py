"""Backups of a gateway on PGlite, which stops for the copy; restores over existing data and into an empty home."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from tests.support.engine_marks import on_pglite
from tests.support.site import Site, assert_no_leftovers
from tests.support.site_database import add_mark, marks_of, rows_of
from tests.support.traps.kill_points import trap_at

pytestmark = [pytest.mark.slow, on_pglite]


def test_from_backup_to_restore_here_and_elsewhere(twice: Site, scratch: Path) -> None:
    """A cold backup is verified and restored, over the current data and after a purge."""
    identity, secret = twice.receipt()["instance_id"], twice.home.auth_secret.read_bytes()
    [listed] = twice.json("backup", "list").result["backups"]
    assert listed["kind"] == "cold"
    assert twice.request("GET", "/readyz")[0] == 200
    verified = twice.json("backup", "verify").result["verification"]
    assert verified["rows"] > 0
    [backup] = (twice.path / "backups").iterdir()
    shutil.copytree(backup, scratch / "backups" / backup.name)
    twice.home.auth_secret.write_text("z" * 43)
    assert twice.json("backup", "restore", "--yes", "latest").result["smoke_test"] is not None
    assert marks_of(twice) == ["then"]
    assert (twice.receipt()["instance_id"], twice.home.auth_secret.read_bytes()) == (identity, secret)
    assert_no_leftovers(twice)
    assert twice.install().steps == []
    assert twice.json("doctor").code == 0

    assert twice.json("uninstall", f"--purge={identity}").code == 0
    assert not twice.path.exists()
    words = ["--run-as", twice.account_name] if twice.account_name is not None else []
    done = twice.json("backup", "restore", "--yes", str(scratch / "backups" / backup.name), *words).result
    assert done["instance_id"] == identity == twice.receipt()["instance_id"]
    assert (marks_of(twice), twice.receipt()["engine"]) == (["then"], "pglite")
    assert twice.json("uninstall", f"--purge={identity}").code == 0
    twice.assert_nothing_runs()
    assert not twice.path.exists()


@pytest.mark.parametrize("event", [("manifest renamed", 1), ("copy of base created", 1)])
def test_a_killed_backup_leaves_no_backup(site: Site, event: tuple[str, int]) -> None:
    """The stopped gateway can be started and has all rows; the next backup removes the leftovers."""
    site.installed()
    add_mark(site, "now")
    before = rows_of(site)
    point, count = event
    trap = trap_at(point, count)
    assert site.json("backup", "create", trap=trap).code == -signal.SIGKILL
    assert site.json("backup", "list").result["backups"] == []
    assert site.json("start").code == 0
    assert rows_of(site) == before
    assert site.json("backup", "create").code == 0
    assert len(list((site.path / "backups").iterdir())) == 1
    assert site.request("GET", "/readyz")[0] == 200


def test_if_the_restored_gateway_does_not_start_the_old_one_serves_again(site: Site) -> None:
    """If the backup's database does not start, the restore is rolled back, and the error contains PGlite's message."""
    site.installed("--no-start")
    settings = site.home.data / "pglite" / "postgresql.auto.conf"
    settings.write_text("no_such_setting = 1\n")
    assert site.json("backup", "create").result["kind"] == "cold"
    settings.write_text("")
    site.installed()
    add_mark(site, "now")
    before = rows_of(site)
    failed = site.json("backup", "restore", "--yes", "latest")
    assert failed.error["code"] == "ENGINE_START"
    assert "no_such_setting" in failed.error["message"]
    assert rows_of(site) == before
    assert_no_leftovers(site)
