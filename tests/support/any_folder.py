"""Generated migration folders, and the plainest way to run them: the reference for the runner.

`reference` sends each chunk with psycopg in autocommit mode, exactly as it is written. Three rules are added, which are
what a file asks for:

- before a chunk with a statement that acts until the end of its transaction (``SET LOCAL``, ``LOCK``, ``SAVEPOINT``, …)
  it sends BEGIN unless a transaction is open, and at the end of a file COMMIT if one is;
- after a COMMIT of the file itself it does not, until a BEGIN of the file: SET LOCAL has no effect there, as with psql;
- a chunk is sent in parts if a BEGIN follows other statements, or other statements follow a COMMIT.

PostgreSQL reports whether a transaction is open; nothing here parses SQL. A file begins with a clean session, and the
first error ends the run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus

__all__ = ["BASE", "SCHEMAS", "File", "folders", "reference"]

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
class Part:
    """A chunk, or a part of one with transaction control. ``transaction``: it asks for one until the end of the file.

    ``commits``: it ends with a COMMIT of its own.
    """

    sql: str
    transaction: bool
    commits: bool


@dataclass(frozen=True, slots=True)
class File:
    """The parts of one migration file, and its text. ``refusable``: it contains ROLLBACK, which the runner refuses."""

    parts: tuple[Part, ...]
    text: str
    refusable: bool


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


#: Sequences of chunks in which later ones may depend on earlier ones. ``{n}`` is a number of its own, ``{k}`` the
#: chunk's within the sequence. ! before a chunk: it asks for a transaction; ~ after a COMMIT; ¦ before a BEGIN.
PLAIN = [
    (SAY,), (SAY, SAY), (TABLE,), (f"{SAY};\n{SAY}",), (SETTING,), (PATH,), (LEVEL,),
    ("CREATE TABLE \"commit{n}\" (\"begin\" int, \"end\" text DEFAULT 'BEGIN; COMMIT;')",),
    (NOTE + "VALUES ($x$ COMMIT; SET LOCAL my.x = '1'; -- ' $$ {n}\n$x$)",),
    (NOTE + "SELECT CASE WHEN true THEN E'it\\'s; ROLLBACK' END",),
    ("CREATE FUNCTION f{n}() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN {n}; END $$", NOTE + "SELECT f{n}()"),
    ("CREATE FUNCTION s.g{n}() RETURNS int BEGIN ATOMIC SELECT 1; SELECT {n}; END", NOTE + "SELECT s.g{n}()"),
    ("DO $$ BEGIN " + SAY + "; EXCEPTION WHEN OTHERS THEN NULL; END $$",),
    ("DO $do$ BEGIN EXECUTE $$" + SAY + "$$; END $do$",),
    ("",), ("   ",), ("-- only a comment; COMMIT",), (";",),
]  # fmt: skip
SESSION = [
    ("SET my.x = '{n}'", SETTING),
    ("SET SESSION my.x TO '{n}'", SETTING, "RESET my.x", SETTING),
    ("SELECT set_config('my.x', '{n}', false)", SETTING),
    ("SET search_path = s", TABLE, PATH),
    ("RESET ALL", PATH),
    ("CREATE TEMP TABLE keep{n} (id int)", "INSERT INTO keep{n} VALUES (1)", NOTE + "SELECT count(*) FROM keep{n}"),
    ("DECLARE h{n} CURSOR WITH HOLD FOR SELECT 1", "FETCH h{n}", "CLOSE h{n}"),
]
TEMPORARY = ("INSERT INTO plan{n} VALUES (1)", NOTE + "SELECT count(*) FROM plan{n}")
IN_TRANSACTION = [
    ("!SET LOCAL my.x = '{n}'", SETTING, SETTING),
    ("!SELECT set_config('my.x', '{n}', true)", SETTING),
    ("!SELECT pg_catalog.set_config('my.x', '{n}', NOT false)", SETTING),
    (f"!{SAY};\nSET LOCAL search_path = s;\n{TABLE}", PATH, TABLE),
    ("!SET LOCAL search_path = s", TABLE),
    ("!DO $$ BEGIN SET LOCAL my.x = '{n}'; END $$", SETTING),
    ("!DO $$ BEGIN PERFORM set_config('search_path', 's', true); END $$", TABLE),
    ("!SET CONSTRAINTS ALL DEFERRED", CHILD, PARENT),
    ("!INSERT INTO public.late VALUES ({n})", PARENT),
    ("!LOCK TABLE public.a IN ACCESS EXCLUSIVE MODE", SAY, SAY),
    ("!LOCK public.a", SAY),
    ("!SAVEPOINT p{n}", SAY, "!RELEASE SAVEPOINT p{n}", SAY),
    ("!SAVEPOINT p{n}", SAY, "!ROLLBACK TO SAVEPOINT p{n}", SAY),
    (
        "!DECLARE c{n} CURSOR FOR SELECT id FROM public.a ORDER BY id FOR UPDATE", "FETCH 1 FROM c{n}",
        "UPDATE public.a SET id = id + 10 WHERE CURRENT OF c{n}", "CLOSE c{n}",
    ),
    ("!CREATE TEMP TABLE plan{n} (id int) ON COMMIT DROP", *TEMPORARY),
    ("!CREATE TEMPORARY TABLE plan{n} ON COMMIT DROP AS SELECT {n} AS id", *TEMPORARY),
    ("!CREATE TEMP TABLE plan{n} (id int) ON COMMIT DELETE ROWS", *TEMPORARY),
    ("!SELECT pg_advisory_xact_lock({n})", ADVISORY),
    ("!SELECT pg_try_advisory_xact_lock_shared({n})", ADVISORY),
    ("!SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", LEVEL, LEVEL),
]  # fmt: skip
CONTROL = [
    (f"BEGIN;\n{SAY};\n{TABLE};\nCOMMIT~",),
    (f"BEGIN;\nSET LOCAL my.x = '{{n}}';\n{SETTING};\nCOMMIT~", SETTING),
    ("BEGIN", SAY, SAY, "COMMIT~"),
    (f"BEGIN;\n{SAY}", f"{SAY};\nCOMMIT~"),
    (f"{SAY};\n¦BEGIN", SAY, f"COMMIT;~\n{SAY}"),
    (f"{SAY};\n¦BEGIN TRANSACTION;\n{SAY};\nCOMMIT TRANSACTION~",),
    (f"{SAY};\nCOMMIT~",),
    (f"{SAY};\nCOMMIT;~\n{SAY}",),
    (f"BEGIN;\n{SAY};\nCOMMIT;~\nBEGIN;\n{SAY};\nEND~",),
    (f"BEGIN;\n{SAY};\nCOMMIT AND CHAIN~", SAY, "COMMIT AND NO CHAIN~"),
    ("COMMIT~",), ("END~",), ("BEGIN WORK", SAY),
    (f"START TRANSACTION ISOLATION LEVEL REPEATABLE READ;\n{LEVEL};\nCOMMIT~",),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE", LEVEL, LEVEL, "END TRANSACTION~"),
    (f"BEGIN;\nSET TRANSACTION ISOLATION LEVEL REPEATABLE READ;\n{LEVEL};\nCOMMIT~",),
    ("BEGIN;\nSET LOCAL my.x = '{n}';\nLOCK public.a;\nSET TRANSACTION ISOLATION LEVEL SERIALIZABLE", LEVEL, "COMMIT~"),
    (f"BEGIN;\nSET CONSTRAINTS ALL DEFERRED;\n{CHILD}", PARENT, "COMMIT~"),
    (f"BEGIN;\n{SAY};\nROLLBACK",), ("ROLLBACK",),
]  # fmt: skip
REFUSED = CONTROL[-2:]
OUTSIDE = [
    ("CREATE INDEX CONCURRENTLY i{n} ON public.notes (note)",),
    ("COMMIT~", "CREATE INDEX CONCURRENTLY i{n} ON public.a (id)"),
    ("CREATE INDEX CONCURRENTLY j{n} ON public.a (id)", "DROP INDEX CONCURRENTLY public.j{n}"),
    ("CREATE INDEX CONCURRENTLY ON public.a (id);\nCREATE INDEX CONCURRENTLY ON public.a (id)",),
    ("VACUUM public.notes",),
    (f"CREATE PROCEDURE s.p{{n}}() LANGUAGE plpgsql AS $$ BEGIN {SAY}; COMMIT; {SAY}; END $$", "CALL s.p{n}()"),
    (f"DO $$ BEGIN {SAY}; COMMIT; {SAY}; END $$",),
    ("ALTER TYPE public.mood ADD VALUE 'v{n}'", "INSERT INTO public.moods VALUES ('v{n}')"),
    ("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'v{n}'", SAY, "CREATE TABLE m{n} (m mood DEFAULT 'v{n}')"),
    ("CREATE TYPE k{n} AS ENUM ('a')", "ALTER TYPE k{n} ADD VALUE 'b'", "CREATE TABLE kt{n} (k k{n} DEFAULT 'b')"),
]
FAILING = [
    ("INSERT INTO nowhere VALUES (1)",),
    (f"{SAY};\nSELECT 1 / 0",),
    ("SELEC 1",),
]
BEFORE = st.sampled_from([
    "", "", "", "", "\n\n", "-- it's; BEGIN\n", "/* COMMIT; /* in it: ' */ SET LOCAL */ ", "--\n-- é\n\t", "/**/",
])  # fmt: skip
AFTER = st.sampled_from(["", ";", ";", ";", ";\n", "; -- done", " ;;", ";\n/* ' */", ";\n-- last line; BEGIN\n"])
BETWEEN = st.sampled_from([f"\n{BREAKPOINT}\n", BREAKPOINT, f"{BREAKPOINT}\n", f"\n\n{BREAKPOINT}\n\n"])
KINDS = st.sampled_from([PLAIN, PLAIN, SESSION, IN_TRANSACTION, IN_TRANSACTION, CONTROL, CONTROL, OUTSIDE])


def parts_of(chunk: str, before: str, after: str) -> list[Part]:
    """Return the parts of *chunk*, between two comments or the like."""
    sent = re.findall(r"[^~¦]+[~¦]?", before + chunk.removeprefix("!")) or [""]
    end = "~" if sent[-1].endswith("~") else ""
    sent[-1] = sent[-1].removesuffix("~") + after + end
    return [Part(text.rstrip("~¦"), chunk.startswith("!"), text.endswith("~")) for text in sent]


@st.composite
def files(draw: st.DrawFn, first: int) -> File:
    """Draw a file: sequences, interleaved, each of which keeps its order; *first* numbers them."""
    drawn = draw(st.lists(KINDS.flatmap(st.sampled_from), max_size=4))
    if draw(st.integers(0, 7)) == 0:
        drawn.append(draw(st.sampled_from(FAILING)))
    order = draw(st.permutations([index for index, sequence in enumerate(drawn) for _ in sequence]))
    waiting = [list(enumerate(sequence)) for sequence in drawn]
    ends = draw(st.sampled_from(["\n", "\n", "\n", "\r\n"]))
    text = ""
    parts: list[Part] = []
    for index in order:
        k, chunk = waiting[index].pop(0)
        chunk = chunk.replace("{n}", str(first + index)).replace("{k}", str(k)).replace("\n", ends)
        rendered = parts_of(chunk, draw(BEFORE).replace("\n", ends), draw(AFTER).replace("\n", ends))
        text += (draw(BETWEEN).replace("\n", ends) if parts else "") + "".join(part.sql for part in rendered)
        parts += rendered
    return File(tuple(parts), text, any(sequence in REFUSED for sequence in drawn))


#: Folders of one to three files.
folders = st.integers(1, 3).flatmap(lambda count: st.tuples(*(files((index + 1) * 100) for index in range(count))))


def reference(connection: Connection, folder: Sequence[File]) -> str | None:
    """Run *folder* and return the SQLSTATE of the first error, None if there is none."""
    try:
        for file in folder:
            _run(connection, file)
    except psycopg.Error as error:
        with suppress(psycopg.Error):
            connection.execute("ROLLBACK")
        return error.sqlstate
    return None


def _run(connection: Connection, file: File) -> None:
    def in_transaction() -> bool:
        return connection.info.transaction_status == TransactionStatus.INTRANS

    connection.execute("DISCARD ALL")
    committed = False  # by the file itself, and not begun again
    for part in file.parts:
        if part.transaction and not committed and not in_transaction():
            connection.execute("BEGIN")
        connection.execute(part.sql.encode())
        committed = not in_transaction() and (committed or part.commits)
    if in_transaction():
        connection.execute("COMMIT")
