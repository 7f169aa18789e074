"""What an upgrade's way back goes by on PGlite, which forgets its counters whenever it ends."""

from __future__ import annotations

import psycopg
import pytest
from tests.conftest import PgliteServer

from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, losses, read_written


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_was_written_is_told_after_every_end(database: str, sidecar: PgliteServer, end: str) -> None:
    """Rows that were added, changed and deleted before the sidecar ended, in order or not, are missed by nobody."""
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("CREATE TABLE notes (id integer, body text)")
        writer.execute("CREATE TABLE others AS SELECT * FROM notes")
        writer.execute("INSERT INTO notes SELECT n FROM generate_series(1, 10) AS n")
    before = read_written(database, DetectionMethod.ROWS)
    assert losses(before, database) == ()
    getattr(sidecar, end)()
    sidecar.start()
    assert losses(before, sidecar.conninfo) == ()
    with psycopg.connect(sidecar.conninfo, autocommit=True) as writer:
        writer.execute("VACUUM FREEZE notes")
        writer.execute("INSERT INTO notes VALUES (11), (12), (13)")
        writer.execute("UPDATE notes SET body = 'x' WHERE id = 1")
        writer.execute("DELETE FROM notes WHERE id IN (2, 3)")
        writer.execute("DROP TABLE others")
    getattr(sidecar, end)()
    sidecar.start()
    # A row that went and one that came are told as one that changed.
    expected = ("public.notes: rows 1 added, 3 changed", "public.others: dropped")
    assert losses(before, sidecar.conninfo) == expected


def test_what_a_gateway_writes_about_itself_does_not_count(database: str) -> None:
    """Of the documents, all but that one do."""
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("CREATE TABLE storage_documents (collection text, key text, body text)")
        before = read_written(database, DetectionMethod.ROWS)
        writer.execute("INSERT INTO storage_documents VALUES ('gateway', 'instance', 'me')")
        assert losses(before, database) == ()
        writer.execute("INSERT INTO storage_documents VALUES ('gateway', 'other', 'mine')")
        assert losses(before, database) == ("public.storage_documents: rows 1 added",)
