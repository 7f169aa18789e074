"""Gates inside the server: a runner's statement waits at a chosen point until the test releases it.

Production code has no hooks for them. They are triggers that acquire a shared advisory lock, of which the test
holds the exclusive one. A gate whose lock the test does not hold is passed without a wait.
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
#: This gate is shared by all ledger rows: it stops the first file's last statement.
AT_LEDGER_ROW = "between the ledger row and the statement"
#: Point -> number of its gate. 4 and 5 are before and after the statement, which is DDL with a tag that occurs once.
POINTS = {
    "before the compare-and-set": 1,
    "after the compare-and-set": 2,
    AT_LEDGER_ROW: 3,
    "before the statement": 4,
    "after the statement": 5,
    "before the commit": 6,
}


def build(connection: Connection, tag: str, statement: int, kind: str) -> None:
    """Create the runner's tables and the gates around statement *statement* of *tag*; *kind* is its command tag."""
    ledger.create(connection, LEDGER)
    progress.create(connection)
    connection.execute(GATE.encode())
    condition = f"NEW.tag = '{tag}' AND NEW.applied = {statement}"
    table, change = "mosaic.migration_progress", "INSERT OR UPDATE"
    # For an upsert the BEFORE INSERT trigger fires first, even if the row is then updated.
    gates = (
        (1, f"BEFORE {change}", table, f"WHEN ({condition})"),
        (2, f"AFTER {change}", table, f"WHEN ({condition})"),
        (3, "AFTER INSERT", f'"{LEDGER.schema}"."{LEDGER.table}"', ""),
    )
    for number, when, target, when_clause in gates:
        connection.execute(ROW.format(number=number, when=when, table=target, condition=when_clause).encode())
    for number, when in ((4, "start"), (5, "end")):
        connection.execute(DDL.format(number=number, when=when, tag=kind).encode())
    connection.execute(AT_COMMIT.format(condition=condition).encode())


def remove(connection: Connection) -> None:
    """Drop the gates, so that only the runner's objects are left."""
    connection.execute("DROP EVENT TRIGGER gate_4; DROP EVENT TRIGGER gate_5; DROP SCHEMA gate CASCADE")


@contextmanager
def closed(conninfo: str, number: int) -> Iterator[Connection]:
    """Close gate *number* inside the block."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s, %s)", (KEY, number))
        yield connection


def wait_for(connection: Connection, query: str) -> object:
    """Poll *query* until it returns a row, and return its first value."""
    deadline = time.monotonic() + LIMIT
    while (row := connection.execute(query.encode()).fetchone()) is None:
        assert time.monotonic() < deadline, f"nothing within {LIMIT:g} s: {query}"
        time.sleep(0.005)
    return row[0]


def wait_for_runner(connection: Connection) -> int:
    """Wait until a runner waits at a gate, and return the pid of its backend."""
    query = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = {KEY} AND NOT granted"
    return int(str(wait_for(connection, query)))


def seconds_until_gone(connection: Connection, pid: int) -> float:
    """Wait until backend *pid* has exited, and return the seconds waited."""
    started = time.monotonic()
    wait_for(connection, f"SELECT true WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
    return time.monotonic() - started
