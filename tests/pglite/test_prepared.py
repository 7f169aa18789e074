from __future__ import annotations

import pytest
from psycopg import errors
from tests.pglite.process import Connect, Connection, Sidecar, eventually
from tests.pglite.wire import EXECUTE, SYNC, bind, client, columns, fields, message, parse


def test_same_names_on_several_connections(connect: Connect) -> None:
    """psycopg uses the same statement names on each connection; they do not conflict."""
    first, second = connect(prepare_threshold=0), connect(prepare_threshold=0)
    for _ in range(3):
        assert first.execute("SELECT %s::int + 1", [1]).fetchone() == (2,)
        assert second.execute("SELECT %s::text || 'x'", ["a"]).fetchone() == ("ax",)


def test_deallocate_all_affects_only_its_connection(connect: Connect) -> None:
    """DEALLOCATE ALL, DISCARD ALL and the end of a connection do not remove statements of others."""
    first, second, third = (connect(prepare_threshold=0) for _ in range(3))
    for connection in (first, second, third):
        connection.execute("SELECT %s::int", [1])
    assert first.execute("DEALLOCATE ALL").statusmessage == "DEALLOCATE ALL"
    assert second.execute("DISCARD ALL").statusmessage == "DISCARD ALL"
    second.close()
    assert third.execute("SELECT %s::int", [5]).fetchone() == (5,)
    with pytest.raises(errors.InvalidSqlStatementName):
        first.execute('EXECUTE "_pg3_0"(1)')
    names = third.execute("SELECT name FROM pg_prepared_statements WHERE statement = 'SELECT $1::int'").fetchall()
    assert len(names) == 1


def test_names_are_free_after_deallocate_all(server: Sidecar, connect: Connect) -> None:
    """After DEALLOCATE ALL a connection can use the same names again."""
    connection = connect(prepare_threshold=0)
    for _ in range(2):
        connection.execute("PREPARE mine AS SELECT 1")
        assert connection.execute("EXECUTE mine").fetchone() == (1,)
        connection.execute("DEALLOCATE ALL")


def test_prepare_execute_deallocate_in_sql(connect: Connect) -> None:
    """Names in SQL are isolated as well, in all spellings."""
    first, second = connect(), connect()
    first.execute('PREPARE plan AS SELECT 1; PREPARE "Plan" (int) AS SELECT $1 + 1')
    second.execute("PREPARE plan AS SELECT 'second'")
    assert first.execute("EXECUTE PLAN").fetchone() == (1,)
    assert first.execute('/* here */ EXECUTE "Plan"(4)').fetchone() == (5,)
    assert second.execute("EXECUTE plan").fetchone() == ("second",)
    assert second.execute("EXPLAIN EXECUTE plan").fetchone() is not None
    second.execute("CREATE TEMP TABLE from_plan AS EXECUTE plan")
    with pytest.raises(errors.DuplicatePreparedStatement, match='"plan" already exists'):
        first.execute("PREPARE plan AS SELECT 2")
    first.execute("DEALLOCATE plan")
    first.execute('DEALLOCATE PREPARE "Plan"')
    with pytest.raises(errors.InvalidSqlStatementName, match='"plan" does not exist'):
        first.execute("EXECUTE plan")
    assert second.execute("EXECUTE plan").fetchone() == ("second",)


def test_long_names(server: Sidecar) -> None:
    """Names that PostgreSQL would truncate remain distinct."""
    long = "n" * 80
    with client(server.directory) as raw:
        raw.send(parse(f"{long}a", "SELECT 'a'"), parse(f"{long}b", "SELECT 'b'"), SYNC)
        raw.until("Z")
        raw.send(bind(f"{long}a"), EXECUTE, bind(f"{long}b"), EXECUTE, SYNC)
        assert [columns(body) for kind, body in raw.until("Z") if kind == "D"] == [["a"], ["b"]]


def test_errors_contain_the_clients_names(server: Sidecar) -> None:
    """An error about an unknown statement contains the client's name for it."""
    with client(server.directory) as raw:
        raw.send(bind("unknown"), SYNC)
        error = fields(raw.until("Z")[0][1])
    assert (error["C"], error["M"]) == ("26000", 'prepared statement "unknown" does not exist')


@pytest.mark.parametrize(
    "text",
    [
        "EXECUTE plan; SELECT nonsense",
        "SELECT 'ü'; EXECUTE plan; /* € */ EXECUTE plan; SELECT 'ü', nonsense",
        "SELECT nonsense; EXECUTE plan",
        "DEALLOCATE ALL; SELECT nonsense",
        "EXPLAIN EXECUTE other(nonsense)",
    ],
)
def test_error_positions_refer_to_the_clients_text(connect: Connect, text: str) -> None:
    """The position of an error refers to the client's text, even if names in it were replaced."""
    connection = connect()
    connect()
    connection.execute("PREPARE plan AS SELECT 1; PREPARE other (int) AS SELECT $1")
    with pytest.raises(errors.UndefinedColumn) as caught:
        connection.execute(text)
    assert caught.value.diag.statement_position == str(text.index("nonsense") + 1)


def test_unnamed_statements_are_isolated(server: Sidecar) -> None:
    """The unnamed statement of one connection is not replaced by that of another."""
    with client(server.directory) as first, client(server.directory) as second:
        first.send(parse("", "SELECT 'first ' || $1"), message(b"D", b"S\0"), SYNC)
        assert [kind for kind, _ in first.until("Z")] == ["1", "t", "T", "Z"]
        second.send(parse("", "SELECT 'second ' || $1"), SYNC)
        second.until("Z")
        for raw, name in ((first, "first"), (second, "second"), (first, "first")):
            raw.send(bind("", "x"), EXECUTE, SYNC)
            answers = raw.until("Z")
            assert [kind for kind, _ in answers] == ["2", "D", "C", "Z"]
            assert columns(answers[1][1]) == [f"{name} x"]


def test_statements_end_with_their_connection(connect: Connect, connection: Connection) -> None:
    """The statements of a closed connection are removed."""
    gone = connect(prepare_threshold=0)
    gone.execute("SELECT %s::int AS leaves", [1])
    gone.close()
    asked = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%AS leaves%'"
    assert eventually(lambda: connection.execute(asked, prepare=False).fetchone() == (0,))
