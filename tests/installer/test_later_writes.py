"""What has been written since an upgrade, by the database's own counters."""

from __future__ import annotations

import os
import signal
import threading

import psycopg

from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, losses, read_written


def test_a_session_that_is_still_ending_is_counted(database: str) -> None:
    """Its client has gone, its process has not handed in its counters yet: what it wrote belongs to before."""
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("CREATE TABLE notes (id integer)")
        writer.execute("INSERT INTO notes SELECT generate_series(1, 10)")  # within a second of the last report
        pid = writer.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
    resume = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
    resume.start()
    try:
        before = read_written(database, DetectionMethod.COUNTERS)
    finally:
        resume.join()
    assert before.tables["public.notes"] == (10, 0, 0)
    assert losses(before, database) == ()
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("DELETE FROM notes WHERE id > 7")
    assert losses(before, database) == ("public.notes: rows 3 deleted",)
