"""The database of a site's running gateway: its rows, and rows that tests add to distinguish two states."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tests.support.site import Site

from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.database_access import running_database
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.backup.row_checksums import Contents, table_rows


def connect_to(site: Site) -> Any:
    """Open a connection to a running gateway's database."""
    conninfo = running_database(site.home, EngineName(site.receipt()["engine"]))
    assert conninfo is not None, "the database is not running"
    return connect(conninfo, application_name="test")


def rows_of(site: Site) -> Contents:
    """Return count and checksum of every table of a running gateway's database, except for the documents."""
    with closing(connect_to(site)) as connection:
        return tuple(rows for rows in table_rows(connection) if "documents" not in rows.table)


def add_mark(site: Site, text: str) -> None:
    """Add the row *text* to the table of marks, which is created first."""
    with closing(connect_to(site)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t_mark (v text)")
        connection.execute("INSERT INTO t_mark VALUES (%s)", [text])


def marks_of(site: Site) -> list[str]:
    """Return the rows that `add_mark` added."""
    with closing(connect_to(site)) as connection:
        return [row[0] for row in connection.execute("SELECT v FROM t_mark ORDER BY 1")]
