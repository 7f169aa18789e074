"""Writes since an upgrade, detected by PostgreSQL's cumulative statistics."""

from __future__ import annotations

import os
import signal
import threading

import psycopg

from mosaic_gateway_installer.upgrade.later_writes import DetectionMethod, read_baseline, writes_since


def test_backend_that_has_not_yet_reported_statistics(database: str) -> None:
    """The client has disconnected, but its backend has not reported yet: its writes belong to the baseline."""
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("CREATE TABLE notes (id integer)")
        writer.execute("INSERT INTO notes SELECT generate_series(1, 10)")  # within a second of the last report
        pid = writer.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
    resume = threading.Timer(0.5, os.kill, (pid, signal.SIGCONT))
    resume.start()
    try:
        before = read_baseline(database, DetectionMethod.COUNTERS)
    finally:
        resume.join()
    assert before.tables["public.notes"] == (10, 0, 0)
    assert writes_since(before, database) == ()
    with psycopg.connect(database, autocommit=True) as writer:
        writer.execute("DELETE FROM notes WHERE id > 7")
    assert writes_since(before, database) == ("public.notes: rows 3 deleted",)
