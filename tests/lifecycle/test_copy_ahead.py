"""Upgrades that copy the data ahead while the old gateway serves and other sessions write."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from tests.lifecycle.old_home import Old
from tests.lifecycle.test_upgrade import assert_serves
from tests.lifecycle.versions import NEW, OLD
from tests.support.traps.kill_points import trap_at

from mosaic_gateway.engines.postgres.engine_lock import running_conninfo
from mosaic_gateway.engines.session import connect
from mosaic_gateway_installer.backup.row_checksums import table_rows

Version = Callable[[str], Path]
WRITERS = 2
#: Verbs that are run after a kill, besides ``upgrade``.
OTHER_VERBS = (("upgrade", "--abort"), ("backup", "create"))


@dataclass
class Load:
    """The ids of the rows whose commit was confirmed to a writer."""

    committed: set[int] = field(default_factory=set)


def _conninfo(site: Old) -> str:
    conninfo = running_conninfo(site.home)
    assert conninfo is not None
    return conninfo


def _write(conninfo: str, load: Load, over: threading.Event) -> None:
    """Insert and update rows, create and drop tables, until the server stops."""
    with suppress(psycopg.Error), closing(connect(conninfo, application_name="writer")) as connection:
        name = f"t_brief_{threading.get_ident()}"
        while not over.is_set():
            rows = connection.execute(
                "INSERT INTO t_load (v) SELECT repeat('x', 500) FROM generate_series(1, 20) RETURNING id"
            )
            load.committed.update(number for (number,) in rows.fetchall())
            connection.execute("UPDATE t_load SET v = v || 'y' WHERE id % 97 = 1")
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM t_load LIMIT 100".encode())
            connection.execute(f"DROP TABLE {name}".encode())


@contextmanager
def _writing(site: Old) -> Iterator[Load]:
    load, over = Load(), threading.Event()
    conninfo = _conninfo(site)
    with closing(connect(conninfo, application_name="test")) as connection:
        connection.execute("CREATE TABLE t_load (id bigserial PRIMARY KEY, v text)")
    threads = [threading.Thread(target=_write, args=[conninfo, load, over]) for _ in range(WRITERS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _loaded(site: Old) -> tuple[set[int], str]:
    """Return the ids, and a checksum of the whole rows."""
    with closing(connect(_conninfo(site), application_name="test")) as connection:
        ids = {number for (number,) in connection.execute("SELECT id FROM t_load")}
        return ids, next(rows.checksum for rows in table_rows(connection) if "t_load" in rows.table)


def test_rows_written_during_the_copy(old: Old, version: Version) -> None:
    """Every committed row exists after the upgrade, and unchanged after a revert to the upgrade's backup."""
    with _writing(old) as load:
        done = old.run_version(version(NEW), "upgrade").result
    assert [step["id"] for step in done["steps"]][:4] == ["program", "copy", "mark", "stop"]
    assert_serves(old, NEW)
    ids, checksum = _loaded(old)
    assert len(load.committed) > 100
    assert load.committed <= ids
    verified = old.run_version(version(NEW), "backup", "verify", done["backup"])
    assert verified.code == 0, verified.out
    reverted = old.run_version(version(NEW), "upgrade", "--revert", "--accept-loss")
    assert reverted.code == 0, reverted.out
    assert_serves(old, OLD)
    assert _loaded(old) == (ids, checksum)


@pytest.fixture
def killed_copy(old: Old, version: Version) -> Old:
    """Return a home whose upgrade was killed during the copy; its old gateway continues to serve."""
    trap = trap_at("copy of base created")
    killed = old.run_version(version(NEW), "upgrade", trap=trap)
    assert killed.code == -signal.SIGKILL, (killed.code, killed.out)
    assert old.request("GET", "/readyz")[1]["version"] == OLD
    assert list(old.path.glob("backups/.*.tmp"))
    return old


def test_upgrade_after_a_kill_during_the_copy(killed_copy: Old, version: Version) -> None:
    """The next upgrade completes."""
    done = killed_copy.run_version(version(NEW), "upgrade")
    assert done.code == 0, done.out
    assert_serves(killed_copy, NEW)


@pytest.mark.lifecycle
@pytest.mark.parametrize("then", OTHER_VERBS)
def test_other_verbs_after_a_kill_during_the_copy(killed_copy: Old, version: Version, then: tuple[str, ...]) -> None:
    """Abort and backup remove the unfinished copy, and the old gateway serves the same rows."""
    done = killed_copy.run_version(version(OLD if then[0] == "backup" else NEW), *then)
    assert done.code == 0, done.out
    assert not list(killed_copy.path.glob("backups/.*.tmp"))
    assert killed_copy.request("GET", "/readyz")[1]["version"] == OLD
    assert killed_copy.rows() == killed_copy.before
