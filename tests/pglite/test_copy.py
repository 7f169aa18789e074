from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from psycopg import errors
from tests.pglite.process import Connection, Sidecar, StartSidecar
from tests.pglite.wire import EXECUTE, SYNC, bind, client, fields, message, parse, query

MEGABYTE = 1_000_000
COPIED = 200 * MEGABYTE
MEMORY = 150 * MEGABYTE  # maximum increase during a COPY of any size


@pytest.fixture(autouse=True)
def _table(connection: Connection) -> Iterator[None]:
    connection.execute("CREATE TABLE copied (a int PRIMARY KEY, b text)")
    yield
    connection.execute("DROP TABLE copied")


@pytest.mark.parametrize("options", ["", "WITH (FORMAT csv)"])
def test_text_in_and_out(connection: Connection, options: str) -> None:
    """COPY in text formats, in both directions, with characters that must be escaped."""
    rows = [(1, "one"), (2, 'tab\t "quoted" \\ back'), (3, None)]
    with connection.cursor() as cursor:
        with cursor.copy("COPY copied FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        assert cursor.rowcount == 3
        with cursor.copy(f"COPY (SELECT * FROM copied ORDER BY a) TO STDOUT {options}") as copy:
            text = b"".join(copy)
        cursor.execute("TRUNCATE copied")
        with cursor.copy(f"COPY copied FROM STDIN {options}") as copy:
            copy.write(text)
        assert cursor.execute("SELECT * FROM copied ORDER BY a").fetchall() == rows


def test_binary_in_and_out(connection: Connection) -> None:
    """COPY in the binary format, in both directions."""
    with connection.cursor() as cursor:
        with cursor.copy("COPY copied FROM STDIN WITH (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(10_000):
                copy.write_row((i, f"row {i}"))
        with cursor.copy("COPY (SELECT * FROM copied ORDER BY a) TO STDOUT WITH (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == [(i, f"row {i}") for i in range(10_000)]


@pytest.mark.parametrize("lines", [1, 100_000], ids=["soon", "late"])
def test_error_during_copy(connection: Connection, lines: int) -> None:
    """An invalid row ends COPY with its line number; further data is discarded; no row is stored."""
    with pytest.raises(errors.InvalidTextRepresentation, match="line 2"), connection.cursor() as cursor:
        with cursor.copy("COPY copied FROM STDIN") as copy:
            copy.write(b"1\tok\nbad\tx\n")
            for i in range(lines):
                copy.write(f"{i + 10}\tafter the error\n")
    assert connection.execute("SELECT count(*) FROM copied").fetchone() == (0,)


def test_abort_by_the_client(connection: Connection) -> None:
    """An exception in the client's block aborts COPY."""
    with pytest.raises(ZeroDivisionError), connection.cursor() as cursor, cursor.copy("COPY copied FROM STDIN") as copy:
        copy.write(b"1\tx\n")
        _ = 1 / 0
    assert connection.execute("SELECT count(*) FROM copied").fetchone() == (0,)


def test_in_a_transaction(connection: Connection) -> None:
    """COPY in a transaction, and its failure after a savepoint."""
    with connection.transaction():
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            copy.write(b"1\tx\n")
        with pytest.raises(errors.UniqueViolation), connection.transaction():
            with connection.cursor().copy("COPY copied FROM STDIN") as copy:
                copy.write(b"1\tagain\n")
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            copy.write(b"2\ty\n")
    assert connection.execute("SELECT a FROM copied ORDER BY a").fetchall() == [(1,), (2,)]


def test_statements_that_cannot_copy(connection: Connection) -> None:
    """COPY that fails before the first row is an ordinary error."""
    with pytest.raises(errors.UndefinedTable), connection.cursor().copy("COPY nowhere FROM STDIN"):
        pass
    with pytest.raises(errors.UndefinedColumn), connection.cursor().copy("COPY copied (zzz) FROM STDIN"):
        pass
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_copy_among_other_statements(server: Sidecar) -> None:
    """A simple query may contain COPY between other statements; data may be sent together with it."""
    with client(server.directory) as raw:
        data = message(b"d", b"1\tx\n") + message(b"d", b"2\ty\n") + message(b"c")
        raw.send(query("SELECT 1; COPY copied FROM STDIN; SELECT count(*) FROM copied"), data, query("SELECT 4"))
        assert "".join(kind for kind, _ in raw.until("Z")) == "TDCGCTDCZ"
        assert "".join(kind for kind, _ in raw.until("Z")) == "TDCZ"


def test_copy_in_the_extended_protocol(server: Sidecar) -> None:
    """libpq sends Sync before it knows of the COPY; that Sync is ignored, the one after the data is not."""
    with client(server.directory) as raw:
        raw.send(parse("", "COPY copied FROM STDIN"), bind(""), EXECUTE, SYNC)
        assert "".join(kind for kind, _ in raw.until("G")) == "12G"
        raw.send(message(b"d", b"7\tx\n"), message(b"c"), SYNC)
        assert "".join(kind for kind, _ in raw.until("Z")) == "CZ"
        raw.send(parse("", "COPY copied FROM STDIN"), bind(""), EXECUTE, SYNC)
        raw.until("G")
        raw.send(message(b"f", b"changed my mind\0"), SYNC)
        error, end = raw.until("Z")
        assert fields(error[1])["C"] == "57014"
        assert end == ("Z", b"I")


def test_stray_copy_messages_are_ignored(server: Sidecar) -> None:
    """CopyData outside of COPY is ignored, as in PostgreSQL, in a transaction and outside."""
    stray = message(b"d", b"unexpected") + message(b"d", b"x" * 300_000) + message(b"c")
    with client(server.directory) as raw:
        raw.send(stray)
        assert raw.ask("SELECT 1") == [["1"]]
        raw.ask("BEGIN")
        raw.send(stray)
        assert raw.ask("SELECT 2") == [["2"]]
        raw.ask("ROLLBACK")


def test_one_huge_copy_message(server: Sidecar, connection: Connection) -> None:
    """A single CopyData message may be larger than all buffers."""
    lines = b"".join(b"%d\tline\n" % i for i in range(400_000))
    with client(server.directory) as raw:
        raw.send(query("COPY copied FROM STDIN"))
        raw.until("G")
        raw.send(message(b"d", lines), message(b"c"))
        assert raw.until("Z")[0][1] == b"COPY 400000\0"
    assert connection.execute("SELECT count(*) FROM copied").fetchone() == (400_000,)


def test_row_split_across_messages(server: Sidecar, connection: Connection) -> None:
    """A row may be split anywhere across messages."""
    with client(server.directory) as raw:
        raw.send(query("COPY copied FROM STDIN"))
        raw.until("G")
        raw.send(*[message(b"d", bytes([byte])) for byte in b"12\tcut into bytes\n"], message(b"c"))
        raw.until("Z")
    assert connection.execute("SELECT * FROM copied").fetchone() == (12, "cut into bytes")


@pytest.mark.slow
def test_200_mb_in_and_out(start_sidecar: StartSidecar) -> None:
    """200 MB are copied in both directions with a small increase of memory."""
    sidecar = start_sidecar()
    line = b"x" * 995
    with sidecar.connect() as connection:
        connection.execute("CREATE TABLE big (a int, b text)")
        connection.execute("CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$")
        connection.execute("CREATE TRIGGER none BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION nothing()")
        with connection.cursor().copy("COPY big FROM STDIN") as copy:
            copy.write(b"1\twarm\n")
        before = peak = sidecar.memory
        with connection.cursor().copy("COPY big FROM STDIN") as copy:
            for i in range(COPIED // 1000):
                copy.write(b"%d\t%s\n" % (i, line))
                if i % 5000 == 0:
                    peak = max(peak, sidecar.memory)
        assert max(peak, sidecar.memory) - before < MEMORY
        size = 0
        asked = f"COPY (SELECT i, repeat('x', 990) FROM generate_series(1, {COPIED // 1000}) i) TO STDOUT"
        with connection.cursor().copy(asked) as copy:
            for number, block in enumerate(copy):
                size += len(block)
                if number % 5000 == 0:
                    peak = max(peak, sidecar.memory)
    assert size > COPIED * 0.99
    assert peak - before < MEMORY


def test_invalid_binary_header(server: Sidecar) -> None:
    """An invalid signature of binary COPY raises PostgreSQL's own error."""
    with client(server.directory) as raw:
        raw.send(query("COPY copied FROM STDIN WITH (FORMAT binary)"))
        raw.until("G")
        raw.send(message(b"d", struct.pack("!11s", b"not a copy")), message(b"c"))
        assert fields(raw.until("Z")[0][1])["C"] == "22P04"
