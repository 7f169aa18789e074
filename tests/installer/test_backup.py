"""Backups of a gateway that serves, and of one at rest: made, checked, and found out when they are spoiled."""

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
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.engines.session import connect

if TYPE_CHECKING:
    from tests.installer.conftest import MakeSite, Site


def _backups(site: Site) -> list[str]:
    return [backup["name"] for backup in site.json("backup", "list").result["backups"]]


def _connect(site: Site) -> psycopg.Connection[Any]:
    conninfo = running_conninfo(site.home)
    assert conninfo is not None
    return connect(conninfo, application_name="test")


@contextmanager
def _writers(site: Site, count: int = 3) -> Iterator[list[int]]:
    """Change rows, and add and drop tables, without a pause inside the block; give the count of changes."""
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
    """Return a site that serves, with rows, vectors and an unlogged table."""
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
    """Return what ``backup create`` said of a backup made while three writers were at work."""
    with _writers(serving) as changes:
        result = serving.json("backup", "create").result
    assert min(changes) > 3
    return result


@pytest.mark.slow
def test_a_backup_of_a_busy_gateway_is_exactly_one_instant(serving: Site, created: dict[str, Any]) -> None:
    """Restored, it has the rows that were counted in the running database, table by table."""
    assert (created["kind"], created["verified_at"]) == ("online", None)
    manifest = json.loads((Path(created["path"]) / "manifest.json").read_text())
    tables = {name: count for name, count, _ in manifest["tables"]}
    assert tables['"public"."t_rows"'] > 1000
    assert tables['"public"."t_vectors"'] == 201
    assert tables['"Odd ""one"."a b"'] == 0
    assert '"drizzle"."__drizzle_migrations"' in tables
    assert '"public"."t_gone"' not in tables
    with _writers(serving):  # the living data goes on meanwhile
        found = serving.json("backup", "verify", created["name"]).result
    assert found["verification"]["tables"] == len(tables)
    assert found["verification"]["rows"] == sum(tables.values())
    assert set(found["verification"]["checks"]) == {"pg_amcheck", "pg_checksums"}
    assert found["verified_at"] is not None
    assert serving.request("GET", "/readyz")[0] == 200
    listed = serving.json("backup", "list").result["backups"]
    assert [backup["verified_at"] is not None for backup in listed if backup["name"] == created["name"]] == [True]


@pytest.mark.slow
def test_the_log_in_a_backup_ends_where_nobody_goes_on(serving: Site) -> None:
    """Where nobody writes either, the last segment in it is one that the server has done with."""
    with closing(_connect(serving)) as connection:
        serving.json("backup", "create")  # what is read for the first time is written to the log
        created = Path(serving.json("backup", "create").result["path"])
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone()
    assert row is not None
    segments = sorted(path.name for path in (created / "data" / "postgres-18" / "pg_wal").iterdir() if path.is_file())
    assert segments[-1] < row[0]


@contextmanager
def _storm(site: Site) -> Iterator[None]:
    """Make schemas, one after the other, with next to no pause inside the block."""
    over = threading.Event()

    def make() -> None:
        with closing(_connect(site)) as connection:
            while not over.wait(0.01):
                connection.execute(f"CREATE SCHEMA t_{secrets.token_hex(8)}")

    maker = threading.Thread(target=make)
    maker.start()
    try:
        yield
    finally:
        over.set()
        maker.join()


@pytest.mark.slow
def test_what_no_lock_holds_up_is_in_both_or_in_neither(make_site: MakeSite) -> None:
    """Objects that are made in a storm are in the backup's data exactly if they are in what was noted of it."""
    site = make_site()
    site.installed()
    with _storm(site):
        name = site.json("backup", "create").result["name"]
    assert site.json("backup", "verify", name).result["verified_at"] is not None


@contextmanager
def _half_committed(site: Site, seconds: float) -> Iterator[None]:
    """Make a function whose commit is in the log, on disk, and not yet to be seen for *seconds* of the block.

    A commit that waits for a standby is in that state; every other passes through it.
    """

    def make() -> None:
        with closing(_connect(site)) as connection:
            connection.execute("CREATE FUNCTION t_made() RETURNS int LANGUAGE sql AS 'SELECT 1'")

    def release() -> None:
        with closing(_connect(site)) as connection:
            connection.execute("SELECT pg_reload_conf()")

    with closing(_connect(site)) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        connection.execute("SELECT pg_reload_conf()")
        maker, releaser = threading.Thread(target=make), threading.Timer(seconds, release)
        maker.start()
        while not connection.execute("SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchall():
            time.sleep(0.01)
        connection.execute("ALTER SYSTEM RESET synchronous_standby_names")  # the next reload takes note
        releaser.start()
        try:
            yield
        finally:
            releaser.join()
            maker.join()


@pytest.mark.slow
def test_what_is_being_committed_at_the_instant_is_in_both_or_in_neither(serving: Site) -> None:
    """An object whose commit is in the log, but not yet to be seen, does not make the backup contradict itself."""
    with _half_committed(serving, 5):
        name = serving.json("backup", "create").result["name"]
    assert serving.json("backup", "verify", name).result["verified_at"] is not None


@pytest.mark.slow
def test_a_backup_is_closed_to_others_and_holds_secrets_and_settings(serving: Site, created: dict[str, Any]) -> None:
    """Directories 0700, files 0600, the owner's; nothing of the running server is in it."""
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


def _flip(top: Path) -> None:
    file = next((top / "data").rglob("base/*/PG_VERSION"))
    file.write_bytes(b"81\n")


def _row(top: Path) -> None:
    manifest = json.loads((top / "manifest.json").read_text())
    [entry] = [entry for entry in manifest["tables"] if entry[0] == '"public"."t_vectors"']
    entry[2] = "0:0"
    (top / "manifest.json").write_text(json.dumps(manifest))


def _forget(top: Path) -> None:
    manifest = json.loads((top / "manifest.json").read_text())
    manifest["tables"] = [entry for entry in manifest["tables"] if "t_rows" not in entry[0]]
    (top / "manifest.json").write_text(json.dumps(manifest))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a byte": (_flip, "PG_VERSION was altered"),
    "a missing file": (lambda top: (top / "config.toml").unlink(), "config.toml is missing"),
    "a further file": (lambda top: (top / "data" / "x").touch(), "data/x was not there"),
    "a row": (_row, '"public"."t_vectors" has other rows'),
    "a table": (_forget, '"public"."t_rows" was not there'),
}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
def test_each_damage_is_found(serving: Site, created: dict[str, Any], scratch: Path, damage: str) -> None:
    """Verification names what is wrong, marks nothing as verified, and leaves no restore behind."""
    act, said = DAMAGE[damage]
    copy = scratch / Path(created["path"]).name
    subprocess.run(["cp", "-a", created["path"], copy], check=True)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "verified_at": None}))
    act(copy)
    done = serving.json("backup", "verify", str(copy))
    assert done.error["code"] == "BACKUP_DAMAGED"
    assert said in done.error["message"]
    assert json.loads((copy / "manifest.json").read_text())["verified_at"] is None
    assert not list((serving.path / "backups").glob(".*"))
    refused = serving.json("backup", "restore", str(copy), "--dry-run")
    if damage not in {"a row", "a table"}:  # these show only in a restored database
        assert refused.error["code"] == "BACKUP_DAMAGED"


@pytest.mark.slow
def test_a_writer_that_does_not_end_is_outwaited(serving: Site) -> None:
    """The backup's instant comes when the long transaction has ended; other writers wait a second at most."""
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
    ("os.mkdir", "data'", 1),
    ("os.mkdir", "base'", 1),
    ("os.rename", "backup_label", 1),
    ("os.rename", "manifest.json", 1),
    ("os.rename", "Z-0.1.0", 1),  # a second backup of the same second has a longer name
)


@pytest.mark.slow
@pytest.mark.parametrize("event", KILLS)
def test_a_killed_backup_is_none(serving: Site, event: tuple[str, str, int]) -> None:
    """Killed anywhere, it is not listed; the next one clears it away, and the server has no slot left."""
    before = _backups(serving)
    trap = {"event": event[0], "text": event[1], "count": event[2], "act": "SIGKILL"}
    assert serving.run("backup", "create", trap=trap).code == -signal.SIGKILL
    assert _backups(serving) == before
    assert list((serving.path / "backups").glob(".*.tmp"))
    assert serving.json("backup", "create").code == 0
    assert not list((serving.path / "backups").glob(".*.tmp"))
    with closing(_connect(serving)) as connection:
        assert connection.execute("SELECT slot_name FROM pg_replication_slots").fetchall() == []


@pytest.mark.slow
@pytest.mark.parametrize("event", [("os.rename", "backup_label", 1), ("os.rename", "manifest.json", 1)])
def test_on_a_full_disk_nothing_is_half_made(serving: Site, event: tuple[str, str, int]) -> None:
    """The error is DISK_FULL and says where; the directory is as before."""
    before = sorted((serving.path / "backups").iterdir())
    trap = {"event": event[0], "text": event[1], "count": event[2], "act": "ENOSPC"}
    done = serving.json("backup", "create", trap=trap)
    assert (done.code, done.error["code"]) == (3, "DISK_FULL")
    assert str(serving.path / "backups") in done.error["message"]
    assert sorted((serving.path / "backups").iterdir()) == before


@pytest.mark.slow
def test_too_small_a_disk_is_said_beforehand(serving: Site, small_disk: Callable[[int], Path]) -> None:
    """With --to, before anything is written."""
    place = small_disk(16)
    done = serving.json("backup", "create", "--to", str(place / "x"))
    assert (done.code, done.error["code"]) == (3, "DISK_FULL")
    assert "--to" in done.error["hint"]
    assert not list(place.iterdir())


@pytest.mark.slow
def test_elsewhere_and_at_rest(make_site: MakeSite, scratch: Path) -> None:
    """With the gateway stopped the files are copied and compared; --to keeps them elsewhere, --verify starts them."""
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
def test_old_ones_are_pruned_and_the_verified_one_stays(serving: Site) -> None:
    """The newest stay, and the last verified one however old; the dry run says what the run does."""
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
def test_without_a_backup_the_error_says_how_to_make_one(make_site: MakeSite) -> None:
    """Neither verify nor restore guesses."""
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
