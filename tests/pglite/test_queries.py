from __future__ import annotations

import hashlib
import threading

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb
from tests.pglite.process import Connection, Sidecar
from tests.pglite.wire import FLUSH, SYNC, bind, client, columns, fields, message, parse, query

BINARY = [False, True]
EXECUTE = message(b"E", b"\0\0\0\0\0")


def test_several_statements_in_one_simple_query(connection: Connection) -> None:
    """Each statement of a simple query has its own result."""
    cursor = connection.execute("SELECT 1; SELECT 'two', NULL; CREATE TEMP TABLE q1 (a int)")
    assert cursor.fetchall() == [(1,)]
    assert cursor.nextset()
    assert cursor.fetchall() == [("two", None)]
    assert cursor.nextset()
    assert cursor.statusmessage == "CREATE TABLE"


def test_empty_query(server: Sidecar) -> None:
    """An empty query is answered as by PostgreSQL."""
    with client(server.directory) as raw:
        raw.send(query(""))
        assert [kind for kind, _ in raw.until("Z")] == ["I", "Z"]
        raw.send(query("SELECT 1"))
        assert [kind for kind, _ in raw.until("Z")] == ["T", "D", "C", "Z"]


@pytest.mark.parametrize("binary", BINARY)
def test_parameters_and_results(connection: Connection, *, binary: bool) -> None:
    """Values of many types are sent and received in both formats."""
    mark = "%b" if binary else "%t"
    values = (7, 2**40, 1.5, "héllo €", b"\x00\xff\\", True, None, [1, 2, 3])
    types = ("int4", "int8", "float8", "text", "bytea", "bool", "text", "int4[]")
    asked = ", ".join(f"{mark}::{kind}" for kind in types)
    with connection.cursor(binary=binary) as cursor:
        for _ in range(12):  # psycopg prepares it at the sixth execution
            assert cursor.execute(f"SELECT {asked}", values).fetchone() == values


def test_json_and_vectors(connection: Connection) -> None:
    """JSON and pgvector's vectors, which the gateway stores, work."""
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    assert connection.execute("SELECT %s::jsonb", [Jsonb({"a": [1, "x"]})]).fetchone() == ({"a": [1, "x"]},)
    assert connection.execute("SELECT '[1,2,3]'::vector <-> '[1,2,5]'::vector").fetchone() == (2.0,)


@pytest.mark.parametrize("size", [8_191, 8_192, 262_143, 262_144, 5_000_001, 60_000_000])
def test_large_values(connection: Connection, size: int) -> None:
    """A value larger than all buffers is sent and received unchanged."""
    value = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    assert connection.execute("SELECT %b, md5(%b)", [value, value]).fetchone() == (value, _md5(value))


def test_many_rows(connection: Connection) -> None:
    """A result larger than all buffers is complete and in order."""
    rows = connection.execute("SELECT i, repeat('x', i % 100) FROM generate_series(1, 100000) i").fetchall()
    assert rows == [(i, "x" * (i % 100)) for i in range(1, 100_001)]


def test_executemany_and_returning(connection: Connection) -> None:
    """psycopg's executemany, which uses a pipeline, returns results."""
    connection.execute("CREATE TEMP TABLE em (a int, b text)")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO em VALUES (%s, %s)", [(i, str(i)) for i in range(5000)])
        assert cursor.rowcount == 5000
        cursor.executemany("INSERT INTO em VALUES (%s, 'r') RETURNING a", [(1,), (2,)], returning=True)
        assert cursor.fetchall() == [(1,)]
        assert cursor.nextset()
        assert cursor.fetchall() == [(2,)]
    assert connection.execute("SELECT count(*), sum(a) FROM em").fetchone() == (5002, 12_497_503)


def test_pipeline_mode(connection: Connection) -> None:
    """Pipelined statements are answered in order; an error skips the rest up to the Sync."""
    connection.execute("CREATE TEMP TABLE pl (a int PRIMARY KEY)")
    with connection.pipeline() as pipeline:
        cursors = [connection.execute("INSERT INTO pl VALUES (%s) RETURNING a", [i]) for i in range(500)]
        pipeline.sync()
        assert [cursor.fetchone() for cursor in cursors] == [(i,) for i in range(500)]
    with pytest.raises(errors.UniqueViolation), connection.pipeline():
        connection.execute("INSERT INTO pl VALUES (1000)")
        connection.execute("INSERT INTO pl VALUES (1)")
        connection.execute("INSERT INTO pl VALUES (1001)")
    assert connection.execute("SELECT max(a) FROM pl").fetchone() == (499,)


def test_pipeline_of_many_megabytes(server: Sidecar) -> None:
    """A pipeline much larger than all buffers, with a single Sync, is answered completely."""
    value = "v" * 2000
    with client(server.directory) as raw:
        sender = threading.Thread(
            target=lambda: raw.send(
                parse("big", "SELECT length($1)"), *[bind("big", value) + EXECUTE for _ in range(10_000)], SYNC
            )
        )
        sender.start()
        answers = raw.until("Z")
        sender.join()
    assert [columns(body) for kind, body in answers if kind == "D"] == [["2000"]] * 10_000


def test_flush_answers_without_sync(server: Sidecar) -> None:
    """Flush sends the answers so far; the pipeline continues after it."""
    with client(server.directory) as raw:
        raw.send(parse("", "SELECT $1::text"), message(b"D", b"S\0"), FLUSH)
        assert [kind for kind, _ in raw.until("T")] == ["1", "t", "T"]
        raw.send(bind("", "x"), EXECUTE, SYNC)
        assert [kind for kind, _ in raw.until("Z")] == ["2", "D", "C", "Z"]


def test_several_groups_in_one_packet(server: Sidecar) -> None:
    """Groups sent together are answered in order, each with its ReadyForQuery."""
    with client(server.directory) as raw:
        raw.send(
            query("SELECT 1"), query("SELECT broken"), parse("", "SELECT 3"), bind(""), EXECUTE, SYNC, query("BEGIN")
        )
        kinds = "".join(kind for _ in range(4) for kind, _ in raw.until("Z"))
        assert kinds == "TDCZEZ12DCZCZ"
        raw.send(query("ROLLBACK"))
        assert raw.until("Z")[-1] == ("Z", b"I")


def test_error_fields(connection: Connection) -> None:
    """An error contains all of PostgreSQL's fields, including the position."""
    with pytest.raises(errors.UndefinedColumn) as caught:
        connection.execute("SELECT 1 + nonsense")
    assert caught.value.diag.statement_position == "12"
    connection.execute("CREATE TEMP TABLE e1 (a int CONSTRAINT positive CHECK (a > 0))")
    with pytest.raises(errors.CheckViolation) as check:
        connection.execute("INSERT INTO e1 VALUES (%s)", [-1])
    assert (check.value.diag.constraint_name, check.value.diag.table_name) == ("positive", "e1")
    assert "Failing row" in (check.value.diag.message_detail or "")


def test_error_larger_than_a_buffer(server: Sidecar) -> None:
    """An error message may be larger than PostgreSQL's send buffer."""
    with client(server.directory) as raw:
        raw.send(query("DO $$ BEGIN RAISE EXCEPTION '%', repeat('long ', 20000); END $$"))
        answers = raw.until("Z")
    assert [kind for kind, _ in answers] == ["E", "Z"]
    assert len(fields(answers[0][1])["M"]) == 100_000


def test_notices(connection: Connection) -> None:
    """Notices arrive before the end of the statement, with their text."""
    seen: list[str | None] = []
    connection.add_notice_handler(lambda diag: seen.append(diag.message_primary))
    connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two %', 2; END $$")
    assert seen == ["one", "two 2"]


def test_transactions_and_savepoints(connection: Connection) -> None:
    """The transaction status is correct in blocks, nested blocks and failed blocks."""
    connection.execute("CREATE TEMP TABLE tx (a int)")
    status = psycopg.pq.TransactionStatus
    with connection.transaction():
        connection.execute("INSERT INTO tx VALUES (1)")
        assert int(connection.info.transaction_status) == status.INTRANS
        with pytest.raises(errors.DivisionByZero), connection.transaction():
            connection.execute("INSERT INTO tx VALUES (2)")
            connection.execute("SELECT 1/0")
        connection.execute("INSERT INTO tx VALUES (3)")
    assert connection.execute("SELECT a FROM tx ORDER BY a").fetchall() == [(1,), (3,)]
    connection.execute("BEGIN")
    with pytest.raises(errors.SyntaxError):
        connection.execute("SELEC")
    assert int(connection.info.transaction_status) == status.INERROR
    with pytest.raises(errors.InFailedSqlTransaction):
        connection.execute("SELECT 1")
    connection.execute("ROLLBACK")
    assert int(connection.info.transaction_status) == status.IDLE


def test_statements_outside_of_transactions(connection: Connection) -> None:
    """VACUUM and CREATE INDEX CONCURRENTLY run outside of a transaction block and are refused inside."""
    connection.execute("CREATE TABLE vac (a int)")
    connection.execute("CREATE INDEX CONCURRENTLY vac_a ON vac (a)")
    connection.execute("VACUUM ANALYZE vac")
    with pytest.raises(errors.ActiveSqlTransaction), connection.transaction():
        connection.execute("VACUUM vac")
    connection.execute("DROP TABLE vac")


def test_server_side_cursors(connection: Connection) -> None:
    """A named cursor is fetched in batches."""
    with connection.transaction(), connection.cursor("c1") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT generate_series(1, 1000)")
        assert sum(row[0] for row in cursor) == 500_500


def test_deep_recursion(connection: Connection) -> None:
    """Infinite recursion and deeply nested expressions raise an error; the database does not crash."""
    connection.execute(
        "CREATE OR REPLACE FUNCTION endless(i int) RETURNS int LANGUAGE plpgsql"
        " AS $$ BEGIN RETURN endless(i + 1); END $$"
    )
    with pytest.raises(errors.StatementTooComplex):
        connection.execute("SELECT endless(1)")
    with pytest.raises(psycopg.Error):
        connection.execute("SELECT " + "(" * 20_000 + "1" + ")" * 20_000)
    assert connection.execute("SELECT 1").fetchone() == (1,)
    connection.execute("DROP FUNCTION endless")


def test_out_of_memory_is_an_error(connection: Connection) -> None:
    """A value too large for WebAssembly's memory fails with 53200 or 54000; the connection remains usable."""
    with pytest.raises((errors.OutOfMemory, errors.ProgramLimitExceeded)):
        connection.execute("SELECT length(repeat('x', 1000000000) || repeat('y', 1000000000))")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def _md5(value: bytes) -> str:
    return hashlib.md5(value, usedforsecurity=False).hexdigest()
