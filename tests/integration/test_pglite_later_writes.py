"""Detection of writes since an upgrade on PGlite, whose statistics are lost when it exits."""

from __future__ import annotations

import psycopg
import pytest
from tests.support.engine_marks import on_pglite
from tests.support.pglite_server import PgliteServer

from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, read_baseline, writes_since

pytestmark = on_pglite


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_writes_are_detected_after_stop_and_kill(database: str, sidecar: PgliteServer, end: str) -> None:
    """Rows added, changed and deleted before the sidecar exited are reported after a stop and after a kill."""
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("CREATE TABLE notes (id integer, body text)")
        writer.execute("CREATE TABLE others AS SELECT * FROM notes")
        writer.execute("INSERT INTO notes SELECT n FROM generate_series(1, 10) AS n")
    before = read_baseline(database, DetectionMethod.ROWS)
    assert writes_since(before, database) == ()
    getattr(sidecar, end)()
    sidecar.start()
    assert writes_since(before, sidecar.conninfo) == ()
    with psycopg.connect(sidecar.conninfo, autocommit=True) as writer:
        writer.execute("VACUUM FREEZE notes")
        writer.execute("INSERT INTO notes VALUES (11), (12), (13)")
        writer.execute("UPDATE notes SET body = 'x' WHERE id = 1")
        writer.execute("DELETE FROM notes WHERE id IN (2, 3)")
        writer.execute("DROP TABLE others")
    getattr(sidecar, end)()
    sidecar.start()
    # A deleted row and an added row are reported as one changed row.
    expected = ("public.notes: rows 1 added, 3 changed", "public.others: dropped")
    assert writes_since(before, sidecar.conninfo) == expected


def test_instance_document_is_ignored(database: str) -> None:
    """The gateway's own instance document is not reported; other documents are."""
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("CREATE TABLE storage_documents (collection text, key text, body text)")
        before = read_baseline(database, DetectionMethod.ROWS)
        writer.execute("INSERT INTO storage_documents VALUES ('gateway', 'instance', 'me')")
        assert writes_since(before, database) == ()
        writer.execute("INSERT INTO storage_documents VALUES ('gateway', 'other', 'mine')")
        assert writes_since(before, database) == ("public.storage_documents: rows 1 added",)
