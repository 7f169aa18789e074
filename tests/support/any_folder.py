"""Generated migration folders, and the plainest way to run them: the reference for the runner.

`reference` sends each chunk with psycopg in autocommit mode, exactly as it is written. Two rules are added, which are
what a file asks for: before a chunk with a statement that has an effect only inside its transaction (``SET LOCAL``,
``LOCK``, ``SAVEPOINT``, …) it sends BEGIN unless a transaction is open, and at the end of a file COMMIT if one is.
PostgreSQL reports whether one is open; nothing here parses SQL. A file begins with a clean session, and the first error
ends the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus

__all__ = ["BASE", "BREAKPOINT", "SCHEMAS", "Chunk", "File", "folders", "reference"]

Connection = psycopg.Connection[tuple[object, ...]]
BREAKPOINT = "--> statement-breakpoint"
#: What every folder finds. ``xid`` is the transaction that wrote a note.
SCHEMAS = "public, s, drizzle, mosaic"
BASE = """
CREATE SCHEMA public; CREATE SCHEMA s;
CREATE TABLE notes (n serial, note text, xid xid8 DEFAULT pg_current_xact_id());
CREATE TABLE a (id int); INSERT INTO a VALUES (1), (2), (3);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int REFERENCES parent DEFERRABLE);
CREATE TABLE late (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE moods (m mood);
"""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk. ``transaction``: it asks for one that reaches to the end of the file, or to COMMIT.

    ``refusable``: the runner may refuse the folder for it, although PostgreSQL would run it.
    """

    sql: str
    transaction: bool = False
    refusable: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """The chunks of one migration file, and its text."""

    chunks: tuple[Chunk, ...]
    text: str


NOTE = "INSERT INTO public.notes (note) "
SAY = NOTE + "VALUES ('{n}')"
SETTING = NOTE + "SELECT 'setting ' || coalesce(nullif(current_setting('my.x', true), ''), 'none')"
PATH = NOTE + "SELECT 'path ' || current_schemas(false)::text"
LEVEL = NOTE + "SELECT 'level ' || current_setting('transaction_isolation')"
ADVISORY = NOTE + (
    "SELECT 'locks ' || count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objid = {n}"
)
TABLE = "CREATE TABLE t{n}_{k} (id int)"
PARENT, CHILD = "INSERT INTO public.parent VALUES ({n})", "INSERT INTO public.child VALUES ({n})"


def chunks(*texts: str) -> tuple[Chunk, ...]:
    """Return chunks that ask for nothing, or for a transaction if their text begins with an exclamation mark."""
    return tuple(
        Chunk(text.removeprefix("!"), transaction=text.startswith("!"), refusable="ROLLBACK" in text) for text in texts
    )


#: Sequences of chunks in which later ones may depend on earlier ones. ``{n}`` is a number of its own, ``{k}`` the
#: chunk's within the sequence.
PLAIN = (
    chunks(SAY),
    chunks(SAY, SAY),
    chunks(TABLE),
    chunks(f"{SAY};\n{SAY}"),
    chunks(SETTING), chunks(PATH), chunks(LEVEL),
    chunks("CREATE TABLE \"commit{n}\" (\"begin\" int, \"end\" text DEFAULT 'BEGIN; COMMIT;')"),
    chunks(NOTE + "VALUES ($x$ COMMIT; SET LOCAL my.x = '1'; -- ' $$ {n}\n$x$)"),
    chunks(NOTE + "SELECT CASE WHEN true THEN E'it\\'s; ROLLBACK' END"),
    chunks("CREATE FUNCTION f{n}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN {n}; END $$",
           NOTE + "SELECT f{n}()"),
    chunks("CREATE FUNCTION public.g{n}() RETURNS int BEGIN ATOMIC SELECT 1; SELECT {n}; END",
           NOTE + "SELECT public.g{n}()"),
    chunks("DO $$ BEGIN " + SAY + "; EXCEPTION WHEN OTHERS THEN NULL; END $$"),
    chunks("DO $do$ BEGIN EXECUTE $$" + SAY + "$$; END $do$"),
    chunks(""), chunks("   "), chunks("-- only a comment; COMMIT"), chunks(";"),
)  # fmt: skip
SESSION = (
    chunks("SET my.x = '{n}'", SETTING),
    chunks("SET SESSION my.x TO '{n}'", SETTING, "RESET my.x", SETTING),
    chunks("SELECT set_config('my.x', '{n}', false)", SETTING),
    chunks("SET search_path = s", TABLE, PATH),
    chunks("RESET ALL", PATH),
    chunks("CREATE TEMP TABLE keep{n} (id int)", "INSERT INTO keep{n} VALUES (1)",
           NOTE + "SELECT count(*) FROM keep{n}"),
    chunks("DECLARE h{n} CURSOR WITH HOLD FOR SELECT 1", "FETCH h{n}", "CLOSE h{n}"),
)  # fmt: skip
IN_TRANSACTION = (
    chunks("!SET LOCAL my.x = '{n}'", SETTING, SETTING),
    chunks("!SELECT set_config('my.x', '{n}', true)", SETTING),
    chunks("!SELECT pg_catalog.set_config(setting_name => 'my.x', new_value => '{n}', is_local => true)", SETTING),
    chunks(f"!{SAY};\nSET LOCAL search_path = s;\n{TABLE}", PATH, TABLE),
    chunks("!SET LOCAL search_path = s", TABLE),
    chunks("!DO $$ BEGIN SET LOCAL my.x = '{n}'; END $$", SETTING),
    chunks("!DO $$ BEGIN PERFORM set_config('search_path', 's', true); END $$", TABLE),
    chunks("!SET CONSTRAINTS ALL DEFERRED", CHILD, PARENT),
    chunks("!LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE", SAY, SAY),
    chunks("!LOCK public.a", SAY),
    chunks("!SAVEPOINT p{n}", SAY, "RELEASE SAVEPOINT p{n}", SAY),
    chunks("!SAVEPOINT p{n}", SAY, "ROLLBACK TO SAVEPOINT p{n}", SAY),
    chunks(
        "!DECLARE c{n} CURSOR FOR SELECT id FROM public.a ORDER BY id FOR UPDATE", "FETCH 1 FROM c{n}",
        "UPDATE public.a SET id = id + 10 WHERE CURRENT OF c{n}", "CLOSE c{n}",
    ),
    chunks("!CREATE TEMP TABLE plan{n} (id int) ON COMMIT DROP", "INSERT INTO plan{n} VALUES (1)",
           NOTE + "SELECT count(*) FROM plan{n}"),
    chunks("!CREATE TEMPORARY TABLE plan{n} ON COMMIT DROP AS SELECT {n} AS id", NOTE + "SELECT id FROM plan{n}"),
    chunks("!CREATE TEMP TABLE plan{n} (id int) ON COMMIT DELETE ROWS", "INSERT INTO plan{n} VALUES (1)",
           NOTE + "SELECT count(*) FROM plan{n}"),
    chunks("!SELECT pg_advisory_xact_lock({n})", ADVISORY),
    chunks("!SELECT pg_try_advisory_xact_lock_shared({n})", ADVISORY),
    chunks("!SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", LEVEL, LEVEL),
)  # fmt: skip
CONTROL = (
    chunks(f"BEGIN;\n{SAY};\n{TABLE};\nCOMMIT"),
    chunks(f"BEGIN;\nSET LOCAL my.x = '{{n}}';\n{SETTING};\nCOMMIT", SETTING),
    chunks("BEGIN", SAY, SAY, "COMMIT"),
    chunks(f"BEGIN;\n{SAY}", f"{SAY};\nCOMMIT"),
    chunks(f"{SAY};\nBEGIN", SAY, f"COMMIT;\n{SAY}"),
    chunks(f"{SAY};\nBEGIN TRANSACTION;\n{SAY};\nCOMMIT TRANSACTION"),
    chunks(f"{SAY};\nCOMMIT"),
    chunks(f"{SAY};\nCOMMIT;\n{SAY}"),
    chunks(f"BEGIN;\n{SAY};\nCOMMIT;\nBEGIN;\n{SAY};\nEND"),
    chunks("COMMIT"), chunks("END"), chunks("BEGIN WORK", SAY),
    chunks(f"START TRANSACTION ISOLATION LEVEL REPEATABLE READ;\n{LEVEL};\nCOMMIT"),
    chunks("BEGIN ISOLATION LEVEL SERIALIZABLE", LEVEL, LEVEL, "END TRANSACTION"),
    chunks(f"BEGIN;\nSET TRANSACTION ISOLATION LEVEL REPEATABLE READ;\n{LEVEL};\nCOMMIT"),
    chunks(f"BEGIN;\nSET CONSTRAINTS ALL DEFERRED;\n{CHILD}", PARENT, "COMMIT"),
    chunks(f"BEGIN;\n{SAY};\nROLLBACK"), chunks("ROLLBACK"),
)  # fmt: skip
OUTSIDE = (
    chunks("CREATE INDEX CONCURRENTLY i{n} ON public.notes (note)"),
    chunks("COMMIT", "CREATE INDEX CONCURRENTLY i{n} ON public.a (id)"),
    chunks("CREATE INDEX CONCURRENTLY j{n} ON public.a (id)", "DROP INDEX CONCURRENTLY public.j{n}"),
    chunks("VACUUM public.notes"),
    chunks("CREATE PROCEDURE public.p{n}() LANGUAGE plpgsql AS $$ BEGIN " + SAY + "; COMMIT; " + SAY + "; END $$",
           "CALL public.p{n}()"),
    chunks("DO $$ BEGIN " + SAY + "; COMMIT; " + SAY + "; END $$"),
    chunks("ALTER TYPE public.mood ADD VALUE 'v{n}'", "INSERT INTO public.moods VALUES ('v{n}')"),
    chunks("ALTER TYPE public.mood ADD VALUE IF NOT EXISTS 'v{n}'", SAY,
           "CREATE TABLE m{n} (m public.mood DEFAULT 'v{n}')"),
    chunks("CREATE TYPE public.k{n} AS ENUM ('a')", "ALTER TYPE public.k{n} ADD VALUE 'b'",
           "CREATE TABLE public.kt{n} (k public.k{n} DEFAULT 'b')"),
    chunks("CREATE INDEX CONCURRENTLY ON public.a (id);\nCREATE INDEX CONCURRENTLY ON public.a (id)"),
)  # fmt: skip
FAILING = (
    chunks("INSERT INTO nowhere VALUES (1)"),
    chunks(f"{SAY};\nSELECT 1 / 0"),
    chunks("INSERT INTO public.late VALUES ({n})", PARENT),
    chunks("SELEC 1"),
)
BEFORE = st.sampled_from([
    "", "", "", "", "\n\n", "-- it's; BEGIN\n", "/* COMMIT; /* in it: ' */ SET LOCAL */ ", "--\n-- é\n\t", "/**/",
])  # fmt: skip
AFTER = st.sampled_from(["", ";", ";", ";", ";\n", "; -- done", " ;;", ";\n/* ' */", ";\n-- last line; BEGIN\n"])
BETWEEN = st.sampled_from([f"\n{BREAKPOINT}\n", BREAKPOINT, f"{BREAKPOINT}\n", f"\n\n{BREAKPOINT}\n\n"])


@st.composite
def files(draw: st.DrawFn, first: int) -> File:
    """Draw a file: some sequences, interleaved, each of whose chunks keeps its place; *first* numbers the sequences."""
    kinds = st.sampled_from([PLAIN, PLAIN, SESSION, IN_TRANSACTION, IN_TRANSACTION, CONTROL, CONTROL, OUTSIDE])
    drawn = draw(st.lists(kinds.flatmap(st.sampled_from), max_size=4))
    if draw(st.integers(0, 7)) == 0:
        drawn.append(draw(st.sampled_from(FAILING)))
    order = draw(st.permutations([index for index, sequence in enumerate(drawn) for _ in sequence]))
    waiting = [list(enumerate(sequence)) for sequence in drawn]
    rendered = []
    for index in order:
        k, chunk = waiting[index].pop(0)
        sql = chunk.sql.replace("{n}", str(first + index)).replace("{k}", str(k))
        rendered.append(Chunk(draw(BEFORE) + sql + draw(AFTER), chunk.transaction, chunk.refusable))
    text = "".join(chunk.sql if not number else draw(BETWEEN) + chunk.sql for number, chunk in enumerate(rendered))
    if draw(st.integers(0, 3)) == 0:
        text = text.replace("\n", "\r\n")
    sent = text.split(BREAKPOINT) if rendered else []
    return File(tuple(Chunk(sql, c.transaction, c.refusable) for sql, c in zip(sent, rendered, strict=True)), text)


#: Folders of one to three files.
folders = st.integers(1, 3).flatmap(lambda count: st.tuples(*(files((index + 1) * 100) for index in range(count))))


def reference(connection: Connection, folder: Sequence[File]) -> str | None:
    """Run *folder* and return the SQLSTATE of the first error, None if there is none."""
    try:
        for file in folder:
            connection.execute("DISCARD ALL")
            for chunk in file.chunks:
                if chunk.transaction and _status(connection) == TransactionStatus.IDLE:
                    connection.execute("BEGIN")
                connection.execute(chunk.sql.encode())
            if _status(connection) == TransactionStatus.INTRANS:
                connection.execute("COMMIT")
    except psycopg.Error as error:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        return error.sqlstate
    return None


def _status(connection: Connection) -> TransactionStatus:
    return connection.info.transaction_status
