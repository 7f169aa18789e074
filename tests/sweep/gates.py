"""Gates inside the server: a runner's statement waits at a chosen point until the test lets it through.

No production code knows of them. They are triggers that ask for a shared advisory lock; the test holds it
alone. A gate that the test does not hold is passed without a wait.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from mosaic_gateway.migrations import ledger, progress
from mosaic_gateway.migrations.bundle import LEDGERS

Connection = psycopg.Connection[tuple[object, ...]]
LIMIT = 20.0  # seconds
KEY = 4711
LEDGER = LEDGERS["gateway"]
GATE = """
CREATE SCHEMA gate;
CREATE FUNCTION gate.wait() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
BEGIN PERFORM pg_advisory_xact_lock_shared(4711, TG_ARGV[0]::integer); RETURN NEW; END $$;
CREATE FUNCTION gate.wait_ddl() RETURNS event_trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4711, CASE TG_EVENT WHEN 'ddl_command_start' THEN 4 ELSE 5 END);
END $$;
"""
DDL = "CREATE EVENT TRIGGER gate_{number} ON ddl_command_{when} WHEN TAG IN ('{tag}') EXECUTE FUNCTION gate.wait_ddl()"
ROW = """
CREATE TRIGGER gate_{number} {when} ON {table} FOR EACH ROW {condition} EXECUTE FUNCTION gate.wait({number})
"""
AT_COMMIT = """
CREATE CONSTRAINT TRIGGER gate_6 AFTER INSERT OR UPDATE ON mosaic.migration_progress
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION gate.wait(6)
"""
#: Point -> the number of its gate. 4 and 5 lie before and after the statement, which is DDL of a kind that occurs once.
POINTS = {
    "before the compare-and-set": 1,
    "after the compare-and-set": 2,
    "between the ledger row and the statement": 3,
    "before the statement": 4,
    "after the statement": 5,
    "before the commit": 6,
}


def build(connection: Connection, tag: str, statement: int, kind: str) -> None:
    """Make the runner's tables and the gates around statement number *statement* of *tag*, a *kind* (CREATE VIEW)."""
    ledger.create(connection, LEDGER)
    progress.create(connection)
    connection.execute(GATE.encode())
    condition = f"NEW.tag = '{tag}' AND NEW.applied = {statement}"
    table, change = "mosaic.migration_progress", "INSERT OR UPDATE"
    # A row of an upsert is seen by the trigger for INSERT first, even if it is an update in the end.
    gates = (
        (1, f"BEFORE {change}", table, f"WHEN ({condition})"),
        (2, f"AFTER {change}", table, f"WHEN ({condition})"),
        (3, "AFTER INSERT", f'"{LEDGER.schema}"."{LEDGER.table}"', ""),
    )
    for number, when, target, only in gates:
        connection.execute(ROW.format(number=number, when=when, table=target, condition=only).encode())
    for number, when in ((4, "start"), (5, "end")):
        connection.execute(DDL.format(number=number, when=when, tag=kind).encode())
    connection.execute(AT_COMMIT.format(condition=condition).encode())


def remove(connection: Connection) -> None:
    """Take the gates away again, so that only what the runner made is left."""
    connection.execute("DROP EVENT TRIGGER gate_4; DROP EVENT TRIGGER gate_5; DROP SCHEMA gate CASCADE")


@contextmanager
def closed(conninfo: str, number: int) -> Iterator[Connection]:
    """Close gate *number* for the length of the block."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (KEY, number))
        yield connection


def wait_for(connection: Connection, query: str) -> object:
    """Return the first value that *query* gives, as soon as it gives a row."""
    deadline = time.monotonic() + LIMIT
    while (row := connection.execute(query.encode()).fetchone()) is None:
        assert time.monotonic() < deadline, f"nothing within {LIMIT:g} s: {query}"
        time.sleep(0.005)
    return row[0]


def wait_for_runner(connection: Connection) -> int:
    """Return the server process of the runner that waits at a gate."""
    query = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {KEY} AND NOT granted"
    return int(str(wait_for(connection, query)))


def seconds_until_gone(connection: Connection, pid: int) -> float:
    """Return how long the server process *pid* still lives."""
    began = time.monotonic()
    wait_for(connection, f"SELECT true WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
    return time.monotonic() - began
