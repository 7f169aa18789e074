"""The log that an online backup takes, on servers at which nobody works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mosaic_gateway_installer.backup.online_copy import copy_running_cluster

if TYPE_CHECKING:
    from tests.conftest import PostgresServer, RunServer


#: As the product runs it: its log is enough to make torn files whole.
SETTINGS = {"wal_level": "replica", "max_wal_senders": "4", "full_page_writes": "on"}


def _segments(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "pg_wal").iterdir() if len(path.name) == 24)


def _in_use(server: PostgresServer) -> str:
    with server.connect() as connection:
        row = connection.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn() + 1)").fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize("recycled", [False, True], ids=["no-segment-ahead", "segments-ahead"])
def test_with_nobody_at_work_the_log_ends_with_what_is_written(
    run_server: RunServer, scratch: Path, recycled: bool
) -> None:
    """The backup goes as far as the log does: not to a segment that is not there, nor to one that others fill."""
    with run_server(f"idle-{recycled}", settings=SETTINGS) as server:
        with server.connect() as connection:
            for _ in range(4 if recycled else 0):
                connection.execute("SELECT pg_logical_emit_message(false, 'test', 'x')")
                connection.execute("SELECT pg_switch_wal()")
            connection.execute("CHECKPOINT")
        copy_running_cluster(server.data, scratch / "copy", server.conninfo())
        retained, in_use = _segments(scratch / "copy"), _in_use(server)
        assert retained[-1] < in_use
        assert (in_use in _segments(server.data)) is recycled
        assert retained == [name for name in _segments(server.data) if retained[0] <= name < in_use]
