"""Restores over present data and into an empty home; after a failure or a kill the previous data serves again."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine_marks import on_both_engines
from tests.support.site import MakeSite, Site, assert_no_leftovers
from tests.support.site_database import add_mark, marks_of, rows_of
from tests.support.traps.kill_points import trap_at

pytestmark = pytest.mark.slow

#: Points in a restore over present data at which it is killed: audit event, text in its arguments, and count.
KILLS: dict[str, tuple[str, int]] = {
    "nothing copied": ("restore begun", 1),
    "half copied": ("copy of base created", 2),
    "copied": ("receipt renamed", 1),
    "nothing exchanged": ("state of the restore renamed", 1),
    "before the secrets": ("secrets exchanged", 1),
    "no secrets": ("secrets exchanged", 2),
    "no settings": ("settings exchanged", 2),
    "before the data": ("data exchanged", 1),
    "no data": ("data exchanged", 2),
    "exchanged": ("gateway launched", 1),
    "started": ("gateway asked", 1),
    "tested, not yet final": ("replaced parts renamed", 1),
    "final, old parts not yet removed": ("replaced parts removed", 1),
}
ALWAYS = {"no data", "started"}


def _moments(*, always: set[str]) -> list[Any]:
    """Return the points as parameters; those not in *always* are marked `lifecycle`."""
    return [pytest.param(moment, marks=[] if moment in always else [pytest.mark.lifecycle]) for moment in KILLS]


def test_restore_over_present_data(twice: Site) -> None:
    """Rows, secret and settings are the backup's; instance, receipt and backups stay the home's; also if repeated."""
    identity, secret = twice.receipt()["instance_id"], twice.home.auth_secret.read_bytes()
    twice.home.auth_secret.write_text("z" * 43)
    planned = twice.json("backup", "restore", "--yes", "latest", "--dry-run").result
    assert marks_of(twice) == ["now", "then"]
    done = twice.json("backup", "restore", "--yes", "latest").result
    assert [step["id"] for step in planned["steps"]] == [step["id"] for step in done["steps"]]
    assert done["smoke_test"] is not None
    assert marks_of(twice) == ["then"]
    assert (twice.receipt()["instance_id"], twice.home.auth_secret.read_bytes()) == (identity, secret)
    assert_no_leftovers(twice)
    assert twice.install().steps == []
    assert twice.json("backup", "verify").result["verification"]["tables"]
    assert twice.json("backup", "restore", "--yes", "latest").code == 0
    assert marks_of(twice) == ["then"]


def test_a_restore_names_what_would_be_lost_and_asks(twice: Site) -> None:
    """Without --yes and a terminal it is refused with rows and people; the replaced data can be restored again."""
    words = ("--name", "Ada", "--email", "ada@example.org", "--password-stdin")
    assert twice.json("bootstrap", "setup", *words, stdin="a long password\n").code == 0
    before = {path.name for path in (twice.path / "backups").iterdir()}
    refused = twice.json("backup", "restore", "latest")
    assert (refused.code, refused.error["code"]) == (2, "CONFIRMATION_MISSING")
    assert refused.error["hint"].endswith(" --yes")
    loss = refused.error["details"]["loss"]
    assert loss["people"] == ["ada@example.org"]
    assert loss["rows"]["public.users"] == {"now": 1, "backup": 0}
    assert "people created since the backup: ada@example.org" in refused.error["message"]
    assert twice.json("backup", "restore", "latest", "--dry-run").result["loss"] == loss
    assert twice.run("backup", "restore", "latest").code == 2
    assert marks_of(twice) == ["now", "then"]
    assert {path.name for path in (twice.path / "backups").iterdir()} == before

    assert twice.json("backup", "restore", "latest", "--yes").code == 0
    assert marks_of(twice) == ["then"]
    (tagged,) = (one for one in twice.json("backup", "list").result["backups"] if one["tag"] == "before-restore")
    assert twice.json("backup", "restore", tagged["name"], "--yes", "--no-backup").code == 0
    assert marks_of(twice) == ["now", "then"]
    assert len(twice.json("backup", "list").result["backups"]) == len(before) + 1


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_restore_on_a_terminal_asks(twice: Site, answer: str) -> None:
    """The answer decides; the question comes after what would be lost."""
    if twice.account_name is not None:
        pytest.skip("root gives --yes")
    words = [sys.executable, "-P", "-m", "mosaic_gateway_installer.cli", "backup", "restore", "latest"]
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*words, "--home", str(twice.path)], env=twice.environ, cwd="/", stdin=terminal,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.write(controller, f"{answer}\n".encode())
    _, err = process.communicate(timeout=120)
    for descriptor in (controller, terminal):
        os.close(descriptor)
    assert "public.t_mark: 2 rows now, 1 in the backup" in err
    assert "Replace the present data" in err
    assert process.returncode == (0 if answer == "y" else 7)
    assert ("error [RESTORE_DECLINED]: the restore was declined; nothing was changed" in err) is (answer == "n")
    assert marks_of(twice) == (["then"] if answer == "y" else ["now", "then"])


def test_restore_into_an_empty_home(twice: Site, make_site: MakeSite, scratch: Path) -> None:
    """After a purge, a backup in another directory restores the same instance; a foreign instance is refused."""
    identity = twice.receipt()["instance_id"]
    [backup] = (twice.path / "backups").iterdir()
    rows_then = json.loads((backup / "manifest.json").read_text())["tables"]
    shutil.copytree(backup, scratch / backup.name)
    other = make_site()
    other.installed("--no-start")
    refused = other.json("backup", "restore", "--yes", str(scratch / backup.name))
    assert (refused.code, refused.error["code"]) == (7, "BACKUP_FOREIGN")
    assert identity in refused.error["message"]

    assert twice.json("uninstall", f"--purge={identity}").code == 0
    assert not twice.path.exists()
    words = ["--run-as", twice.account_name] if twice.account_name is not None else []
    done = twice.json("backup", "restore", "--yes", str(scratch / backup.name), *words).result
    assert done["instance_id"] == identity == twice.receipt()["instance_id"]
    assert marks_of(twice) == ["then"]
    assert [rows.table for rows in rows_of(twice)] == [name for name, _, _ in rows_then if "documents" not in name]
    assert twice.json("uninstall", f"--purge={identity}").code == 0
    assert not twice.path.exists()


@on_both_engines
@pytest.mark.parametrize("moment", _moments(always=ALWAYS))
def test_restore_again_after_kill(twice: Site, moment: str) -> None:
    """The second run has the same result as an uninterrupted one."""
    point, count = KILLS[moment]
    trap = trap_at(point, count)
    done = twice.run("backup", "restore", "--yes", "latest", trap=trap)
    assert done.code == -signal.SIGKILL, (done.out, done.err)
    assert twice.json("backup", "restore", "--yes", "latest").code == 0
    assert marks_of(twice) == ["then"]
    assert_no_leftovers(twice)


@on_both_engines
@pytest.mark.parametrize("moment", _moments(always={"before the data"}))
def test_install_after_killed_restore(twice: Site, moment: str) -> None:
    """An install puts the old data back, or, if the restore was already final, retains the restored data."""
    before = rows_of(twice)
    point, count = KILLS[moment]
    trap = trap_at(point, count)
    assert twice.run("backup", "restore", "--yes", "latest", trap=trap).code == -signal.SIGKILL
    assert twice.install().code == 0
    if moment.startswith("final"):
        assert marks_of(twice) == ["then"]
    else:
        assert rows_of(twice) == before
    twice.json("backup", "create")  # as every verb, it removes the leftovers of the killed one
    assert_no_leftovers(twice)


@pytest.mark.parametrize("started", [True, pytest.param(False, marks=pytest.mark.lifecycle)])
def test_restored_gateway_does_not_start(site: Site, *, started: bool) -> None:
    """With an invalid server configuration in the backup, the previous data is put back, and the error says why."""
    site.installed("--no-start")
    [cluster] = site.home.data.glob("postgres-*")
    (cluster / "postgresql.auto.conf").write_text("no_such_setting = 1\n")
    assert site.json("backup", "create").result["kind"] == "cold"
    (cluster / "postgresql.auto.conf").write_text("")
    site.installed()
    add_mark(site, "now")
    before = rows_of(site)
    if not started:
        site.json("stop")
    failed = site.json("backup", "restore", "--yes", "latest")
    assert failed.error["code"] == "ENGINE_START"
    assert "no_such_setting" in failed.error["message"]
    assert site.json("status").envelope["result"]["running"] is started
    site.json("start")
    assert rows_of(site) == before
    assert_no_leftovers(site)


@on_both_engines
@pytest.mark.lifecycle
@pytest.mark.parametrize("where", [("data exchanged", 2), ("gateway asked", 1)])
def test_interrupted_restore_is_undone(twice: Site, where: tuple[str, int]) -> None:
    """After SIGINT the previous data serves again."""
    before = rows_of(twice)
    trap = trap_at(*where, act="SIGINT")
    assert twice.json("backup", "restore", "--yes", "latest", trap=trap).code == 130
    assert rows_of(twice) == before
    assert twice.request("GET", "/readyz")[0] == 200
    assert_no_leftovers(twice)
