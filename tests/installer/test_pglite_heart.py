"""The main tests of PGlite, which run if Node.js with npm is available; the others run with ``tox -e pglite``."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from tests.support.site import Site

from mosaic_gateway.engines.pglite.data_files import lock_file
from mosaic_gateway.engines.pglite.npm_packages import shipped
from mosaic_gateway.engines.pglite.runtime import packages_directory
from mosaic_gateway.engines.postgres.engine_lock import read_record
from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.database_access import running_database
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    from pathlib import Path

    from psycopg import Connection

pytestmark = pytest.mark.heart

LIMIT = 90.0  # seconds


@pytest.fixture
def glite(site: Site, pglite_home: Home, pglite_cache: Path) -> Site:
    """Return a site for PGlite whose packages are already fetched."""
    packages = packages_directory(pglite_home, shipped())
    site.environ = {
        **site.environ,
        "MOSAIC_GATEWAY_CACHE": str(pglite_cache),
        "MOSAIC_GATEWAY_PGLITE_DIR": str(packages),
    }
    return site


def _sidecar(site: Site) -> int:
    record = read_record(site.home, lock_file(site.home))
    assert record is not None
    assert record.postmaster is not None
    return record.postmaster.pid


def _fill(site: Site) -> None:
    """Insert rows with COPY."""
    with closing(_connect(site)) as connection:
        connection.execute("CREATE TABLE points (n integer, v vector(2))")
        with connection.cursor() as cursor, cursor.copy("COPY points FROM STDIN") as copy:
            for number in range(1000):
                copy.write_row((number, f"[{number},1]"))


def _connect(site: Site) -> Connection[tuple[object, ...]]:
    conninfo = running_database(site.home, EngineName.PGLITE)
    assert conninfo is not None
    return connect(conninfo, application_name="test")


def _query(site: Site) -> tuple[object, ...] | None:
    """Query vectors with a prepared statement with parameters."""
    with closing(_connect(site)) as connection:
        return connection.execute(
            "SELECT count(*), min(v <-> %s::vector) FROM points WHERE n >= %b", ["[500,1]", 10], prepare=True
        ).fetchone()


def test_installed_used_killed_and_purged(glite: Site) -> None:
    """The gateway on PGlite recovers after its sidecar was killed; a purge removes everything."""
    done = glite.install("--engine", "pglite").result
    assert done["smoke_test"]["needsSetup"] is True
    _fill(glite)
    assert _query(glite) == (990, 0.0)
    killed = _sidecar(glite)
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT
    statuses: set[int] = set()
    while 200 not in statuses or _sidecar(glite) == killed:
        assert time.monotonic() < deadline, statuses
        statuses.add(glite.request("GET", "/api/bootstrap/status")[0])
        time.sleep(0.05)
    assert statuses <= {200, 503}
    assert _query(glite) == (990, 0.0)
    assert glite.json("uninstall", f"--purge={done['instance_id']}").code == 0
    glite.assert_nothing_runs()
    assert not glite.path.exists()


def test_a_machine_without_node_is_refused_before_anything_is_created(site: Site, scratch: Path) -> None:
    """NODE_MISSING, with the remedy in the hint."""
    (scratch / "bin").mkdir()
    refused = site.install("--engine", "pglite", PATH=str(scratch / "bin"))
    assert (refused.code, refused.error["code"]) == (3, "NODE_MISSING")
    assert "mosaic-gateway[pglite]" in refused.error["hint"]
    assert not site.path.exists()
