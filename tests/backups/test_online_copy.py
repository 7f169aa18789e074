"""The WAL segments in an online backup of an idle server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.postgres_server import PostgresServer, RunServer

from mosaic_gateway_installer.backup.online_copy import copy_running_cluster

#: The settings of an embedded server: its WAL includes full pages, which repair torn pages.
SETTINGS = {"wal_level": "replica", "max_wal_senders": "4", "full_page_writes": "on"}


def _segments(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "pg_wal").iterdir() if len(path.name) == 24)


def _current_segment(server: PostgresServer) -> str:
    with server.connect() as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn() + 1)").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("recycled", [False, True], ids=["no-segment-ahead", "segments-ahead"])
def test_last_segment_of_an_idle_server(run_server: RunServer, scratch: Path, recycled: bool) -> None:
    """The last segment in the backup is complete: it exists, and the server no longer writes to it."""
    with run_server(f"idle-{recycled}", settings=SETTINGS) as server:
        with server.connect() as connection:
            for _ in range(4 if recycled else 0):
                connection.execute("SELECT pg_logical_emit_message(false, 'test', 'x')")
                connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        copy_running_cluster(server.data, scratch / "copy", server.conninfo())
        copied, current = _segments(scratch / "copy"), _current_segment(server)
        assert copied[-1] < current
        assert (current in _segments(server.data)) is recycled
        assert copied == [name for name in _segments(server.data) if copied[0] <= name < current]
