"""Backups of a running and of a stopped gateway: creation, verification, detection of damage, and pruning."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.engines.session import connect


def _backups(site: Site) -> list[str]:
    return [backup["name"] for backup in site.json("backup", "list").result["backups"]]


def _connect(site: Site) -> psycopg.Connection[Any]:
    conninfo = running_conninfo(site.home)
    assert conninfo is not None
    return connect(conninfo, application_name="test")


@contextmanager
def _writers(site: Site, count: int = 3) -> Iterator[list[int]]:
    """Change rows, and create and drop tables, continuously inside the block; yield the number of rounds per writer."""
    done, over = [0] * count, threading.Event()

    def write(number: int) -> None:
        with closing(_connect(site)) as connection:
            while not over.is_set():
                connection.execute("INSERT INTO t_rows (v) SELECT random()::text FROM generate_series(1, 20)")
                connection.execute("UPDATE t_rows SET v = v || 'x' WHERE id %% 3 = %s AND id %% 7 = 1", [number])
                connection.execute("DELETE FROM t_rows WHERE id %% 3 = %s AND id %% 11 = 1 AND id < 5000", [number])
                connection.execute(f"CREATE TABLE t_new_{number} AS SELECT * FROM t_rows LIMIT 50")
                connection.execute(f"DROP TABLE t_new_{number}")
                done[number] += 1

    threads = [threading.Thread(target=write, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def serving(make_site: MakeSite) -> Site:
    """Return a serving site with rows, vectors and an unlogged table."""
    site = make_site()
    site.installed()
    with closing(_connect(site)) as connection:
        connection.execute("CREATE TABLE t_rows (id bigserial PRIMARY KEY, v text)")
        connection.execute("INSERT INTO t_rows (v) SELECT i::text FROM generate_series(1, 2000) i")
        connection.execute(
            "CREATE TABLE t_vectors (id int, e vector(32), h halfvec(8), j jsonb, f float8, t timestamptz)"
        )
        connection.execute(
            "INSERT INTO t_vectors SELECT i, array_fill(sin(i)::real, ARRAY[32])::vector, "
            "array_fill(1, ARRAY[8])::halfvec, jsonb_build_object('i', i), i / 3.0, now() "
            "FROM generate_series(1, 200) i"
        )
        connection.execute("INSERT INTO t_vectors (id) VALUES (NULL)")
        connection.execute("CREATE UNLOGGED TABLE t_gone AS SELECT 1")
        connection.execute('CREATE SCHEMA "Odd ""one"; CREATE TABLE "Odd ""one"."a b" ("C d" int DEFAULT 1)')
    return site


@pytest.fixture(scope="module")
def created(serving: Site) -> dict[str, Any]:
    """Return the result of ``backup create`` while three writers were running."""
    with _writers(serving) as changes:
        result = serving.json("backup", "create").result
    assert min(changes) > 3
    return result


@pytest.mark.slow
def test_online_backup_is_consistent(serving: Site, created: dict[str, Any]) -> None:
    """The restored backup has the rows that were counted in the running database, table by table."""
    assert (created["kind"], created["verified_at"]) == ("online", None)
    manifest = json.loads((Path(created["path"]) / "manifest.json").read_text())
    tables = {name: count for name, count, _ in manifest["tables"]}
    assert tables['"public"."t_rows"'] > 1000
    assert tables['"public"."t_vectors"'] == 201
    assert tables['"Odd ""one"."a b"'] == 0
    assert '"drizzle"."__drizzle_migrations"' in tables
    assert '"public"."t_gone"' not in tables
    with _writers(serving):  # the present data continues to change
        result = serving.json("backup", "verify", created["name"]).result
    assert result["verification"]["tables"] == len(tables)
    assert result["verification"]["rows"] == sum(tables.values())
    assert set(result["verification"]["checks"]) == {"pg_amcheck", "pg_checksums"}
    assert result["verified_at"] is not None
    assert serving.request("GET", "/readyz")[0] == 200
    listed = serving.json("backup", "list").result["backups"]
    assert [backup["verified_at"] is not None for backup in listed if backup["name"] == created["name"]] == [True]


@pytest.mark.slow
def test_last_wal_segment_without_writers(serving: Site) -> None:
    """The last WAL segment in the backup is complete, also if no session writes."""
    with closing(_connect(serving)) as connection:
        serving.json("backup", "create")  # reading rows for the first time writes hint bits to the WAL
        created = Path(serving.json("backup", "create").result["path"])
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
    assert row is not None
    segments = sorted(path.name for path in (created / "data" / "postgres-18" / "pg_wal").iterdir() if path.is_file())
    assert segments[-1] < row[0]


@contextmanager
def _creating_schemas(site: Site) -> Iterator[None]:
    """Create schemas continuously inside the block."""
    over = threading.Event()

    def create() -> None:
        with closing(_connect(site)) as connection:
            while not over.wait(0.01):
                connection.execute(f"CREATE SCHEMA t_{secrets.token_hex(8)}")

    creator = threading.Thread(target=create)
    creator.start()
    try:
        yield
    finally:
        over.set()
        creator.join()


@pytest.mark.slow
def test_objects_created_during_the_backup(make_site: MakeSite) -> None:
    """Objects that no lock blocks are in the backup's data if and only if they are in its manifest."""
    site = make_site()
    site.installed()
    with _creating_schemas(site):
        name = site.json("backup", "create").result["name"]
    assert site.json("backup", "verify", name).result["verified_at"] is not None


@contextmanager
def _half_committed(site: Site, seconds: float) -> Iterator[None]:
    """Create a function whose commit record is in the WAL, on disk, but not visible for *seconds* of the block.

    A commit that waits for a synchronous standby is in that state; every other commit passes through it.
    """

    def create() -> None:
        with closing(_connect(site)) as connection:
            connection.execute("CREATE FUNCTION t_created() RETURNS int LANGUAGE sql AS 'SELECT 1'")

    def release() -> None:
        with closing(_connect(site)) as connection:
            connection.execute("SELECT pg_reload_conf()")

    with closing(_connect(site)) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
        connection.execute("SELECT pg_reload_conf()")
        creator, releaser = threading.Thread(target=create), threading.Timer(seconds, release)
        creator.start()
        while not connection.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchall():
            time.sleep(0.01)
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")  # takes effect with the next reload
        releaser.start()
        try:
            yield
        finally:
            releaser.join()
            creator.join()


@pytest.mark.slow
def test_commit_in_progress_at_the_backup_instant(serving: Site) -> None:
    """An object whose commit is in the WAL but not yet visible does not make the backup inconsistent."""
    with _half_committed(serving, 5):
        name = serving.json("backup", "create").result["name"]
    assert serving.json("backup", "verify", name).result["verified_at"] is not None


@pytest.mark.slow
def test_content_and_permissions(serving: Site, created: dict[str, Any]) -> None:
    """Secrets and settings are in it; directories are 0700, files 0600, owned by the home's owner."""
    top = Path(created["path"])
    assert (top / "secrets" / "auth-secret").read_bytes() == serving.home.auth_secret.read_bytes()
    assert (top / "config.toml").read_bytes() == serving.home.config_file.read_bytes()
    owner = serving.path.stat().st_uid
    for path in (top.parent, top, *top.rglob("*")):
        status = path.lstat()
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert status.st_uid == owner, path
    assert not (top / "data" / "postgres-18" / "postmaster.pid").exists()
    assert {path.name for path in top.parent.iterdir()} == set(_backups(serving))


def _change_file(top: Path) -> None:
    file = next((top / "data").rglob("base/*/PG_VERSION"))
    file.write_bytes(b"81\n")


def _change_checksum(top: Path) -> None:
    manifest = json.loads((top / "manifest.json").read_text())
    [entry] = [entry for entry in manifest["tables"] if entry[0] == '"public"."t_vectors"']
    entry[2] = "0:0"
    (top / "manifest.json").write_text(json.dumps(manifest))


def _remove_table(top: Path) -> None:
    manifest = json.loads((top / "manifest.json").read_text())
    manifest["tables"] = [entry for entry in manifest["tables"] if "t_rows" not in entry[0]]
    (top / "manifest.json").write_text(json.dumps(manifest))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (_change_file, "PG_VERSION was changed"),
    "a missing file": (lambda top: (top / "config.toml").unlink(), "config.toml is missing"),
    "an extra file": (lambda top: (top / "data" / "x").touch(), "data/x is unexpected"),
    "a row": (_change_checksum, '"public"."t_vectors" has different rows'),
    "a table": (_remove_table, '"public"."t_rows" is unexpected'),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_detected(serving: Site, created: dict[str, Any], scratch: Path, damage: str) -> None:
    """Verification reports the damage, does not mark the backup as verified, and removes its trial restore."""
    act, message = DAMAGE[damage]
    copy = scratch / Path(created["path"]).name
    subprocess.run(["cp", "-a", created["path"], copy], check=True)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "verified_at": None}))
    act(copy)
    done = serving.json("backup", "verify", str(copy))
    assert done.error["code"] == "BACKUP_DAMAGED"
    assert message in done.error["message"]
    assert json.loads((copy / "manifest.json").read_text())["verified_at"] is None
    assert not list((serving.path / "backups").glob(".*"))
    refused = serving.json("backup", "restore", str(copy), "--dry-run")
    if damage not in {"a row", "a table"}:  # these show only in a restored database
        assert refused.error["code"] == "BACKUP_DAMAGED"


@pytest.mark.slow
def test_backup_waits_for_a_long_transaction(serving: Site) -> None:
    """The backup completes after the long transaction has ended."""
    with closing(_connect(serving)) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t_rows (v) VALUES ('late')")
        process = serving.popen("backup", "create", "--json")
        with closing(_connect(serving)) as other:
            waited = 0
            while not other.execute("SELECT 1 FROM pg_locks WHERE mode = 'ShareLock' AND NOT granted").fetchone():
                assert process.poll() is None
                waited += 1
                assert waited < 20_000
        connection.execute("COMMIT")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, (out, err)
        name = json.loads(out)["result"]["name"]
    assert serving.json("backup", "verify", name).code == 0


KILLS = (
    ("copy of the data created", 1),
    ("copy of base created", 1),
    ("backup label renamed", 1),
    ("manifest renamed", 1),
    ("backup renamed", 1),  # a second backup of the same second has a longer name
)


@pytest.mark.slow
@pytest.mark.parametrize("event", KILLS)
def test_killed_backup(serving: Site, event: tuple[str, int]) -> None:
    """An unfinished backup is not listed; the next one removes it, and no replication slot remains."""
    before = _backups(serving)
    trap = trap_at(*event)
    assert serving.run("backup", "create", trap=trap).code == -signal.SIGKILL
    assert _backups(serving) == before
    assert list((serving.path / "backups").glob(".*.tmp"))
    assert serving.json("backup", "create").code == 0
    assert not list((serving.path / "backups").glob(".*.tmp"))
    with closing(_connect(serving)) as connection:
        assert connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == []


@pytest.mark.slow
@pytest.mark.parametrize("event", [("backup label renamed", 1), ("manifest renamed", 1)])
def test_full_disk(serving: Site, event: tuple[str, int]) -> None:
    """The error is DISK_FULL and names the directory, which is as before."""
    before = sorted((serving.path / "backups").iterdir())
    trap = trap_at(*event, act="ENOSPC")
    done = serving.json("backup", "create", trap=trap)
    assert (done.code, done.error["code"]) == (3, "DISK_FULL")
    assert str(serving.path / "backups") in done.error["message"]
    assert sorted((serving.path / "backups").iterdir()) == before


@pytest.mark.slow
def test_free_space_is_checked_first(serving: Site, small_disk: Callable[[int], Path]) -> None:
    """With --to and a small disk, the command fails before anything is written."""
    disk = small_disk(16)
    done = serving.json("backup", "create", "--to", str(disk / "x"))
    assert (done.code, done.error["code"]) == (3, "DISK_FULL")
    assert "--to" in done.error["hint"]
    assert not list(disk.iterdir())


@pytest.mark.slow
def test_cold_backup_into_another_directory(make_site: MakeSite, scratch: Path) -> None:
    """With the gateway stopped, ``--to DIR --verify`` creates and verifies a cold backup in DIR."""
    site = make_site()
    site.installed("--no-start")
    result = site.json("backup", "create", "--to", str(scratch / "a b"), "--verify").result
    assert (result["kind"], result["verified"]) == ("cold", True)
    assert Path(result["path"]).parent == scratch / "a b"
    assert not (site.path / "backups").exists()
    listed = site.json("backup", "list", "--in", str(scratch / "a b")).result["backups"]
    assert [backup["name"] for backup in listed] == [result["name"]]
    assert stat.S_IMODE(Path(result["path"]).stat().st_mode) == 0o700
    site.assert_nothing_runs()
    shutil.rmtree(scratch / "a b")


@pytest.mark.slow
def test_prune(serving: Site) -> None:
    """The newest backup and the last verified one are retained; the dry run reports the same as the run."""
    while len(_backups(serving)) < 4:
        serving.json("backup", "create")
    for name in _backups(serving):
        path = serving.path / "backups" / name / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "verified_at": None}))
    oldest, newest = _backups(serving)[-1], _backups(serving)[0]
    assert serving.json("backup", "verify", oldest).code == 0
    count = len(_backups(serving))
    planned = serving.json("backup", "prune", "--keep", "1", "--dry-run").result
    assert len(_backups(serving)) == count
    assert serving.json("backup", "prune", "--keep", "1", "--older-than", "1").result["removed"] == []
    done = serving.json("backup", "prune", "--keep", "1").result
    assert [b["name"] for b in done["removed"]] == [b["name"] for b in planned["removed"]]
    assert _backups(serving) == [newest, oldest]


@pytest.mark.slow
def test_missing_backup(make_site: MakeSite) -> None:
    """Verify and restore fail with BACKUP_MISSING for every name if there is no backup."""
    site = make_site()
    site.installed("--no-start")
    assert site.json("backup", "list").result["backups"] == []
    for words in (
        ("verify",),
        ("restore", "latest"),
        ("verify", "20200101T000000Z-0.1.0"),
        ("restore", "/nonexistent"),
    ):
        done = site.json("backup", *words)
        assert (done.code, done.error["code"]) == (7, "BACKUP_MISSING")
