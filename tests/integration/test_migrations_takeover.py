"""resolve, baseline, drift reported by statement, and folders created by drizzle-kit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from tests.support.postgres_server import PostgresServer

from mosaic_gateway.migrations import progress
from mosaic_gateway.migrations.baselining import BaselineDiffersError, LedgerNotEmptyError, baseline, scratch_on
from mosaic_gateway.migrations.bundle import LEDGERS, Bundle, BundleError
from mosaic_gateway.migrations.failure import StatementFailedError, UndecidedError
from mosaic_gateway.migrations.gate import LOCK_NAME, make_lock, read_directory
from mosaic_gateway.migrations.model import Migration
from mosaic_gateway.migrations.parse import file_hash, split
from mosaic_gateway.migrations.plan import DriftError, SessionLostError
from mosaic_gateway.migrations.resolution import NothingToResolveError, ResolveAnswer, resolve
from mosaic_gateway.migrations.runner import migrate, read_plan, read_state
from mosaic_gateway.migrations.schema_fingerprint import differences, schema_lines

Connection = psycopg.Connection[tuple[object, ...]]
MARK = "\n--> statement-breakpoint\n"
GATEWAY, STORAGE = Bundle.load("gateway"), Bundle.load("storage")


def bundle_of(*files: tuple[str, ...]) -> Bundle:
    """Return a bundle with a migration for each tuple of statements."""
    migrations = []
    for number, statements in enumerate(files):
        text = MARK.join(statements)
        migrations.append(
            Migration(tag=f"m{number}", when=number + 1, hash=file_hash(text.encode()), statements=split(text))
        )
    return Bundle(name="gateway", ledger=LEDGERS["gateway"], migrations=tuple(migrations))


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    """An open connection to an empty database."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


UNKNOWN = ("CALL unknown_effect()", "CREATE TABLE after_it (n integer)")


def interrupted(connection: Connection) -> Bundle:
    """Leave an interrupted statement of which it is unknown whether it took effect."""
    bundle = bundle_of(("SELECT 1",), UNKNOWN)
    migrate(bundle_of(("SELECT 1",)), connection)
    assert progress.note_intent(connection, bundle.ledger, bundle.migrations[1], 1, {})
    with pytest.raises(UndecidedError, match="interrupted"):
        migrate(bundle, connection)
    return bundle


def test_a_statement_resolved_as_applied_is_skipped(connection: Connection) -> None:
    """The run continues after the statement, which is not run."""
    bundle = interrupted(connection)
    assert not resolve(bundle, connection, "m1", ResolveAnswer.APPLIED).finished
    assert migrate(bundle, connection).applied == ("m1",)
    with pytest.raises(NothingToResolveError):
        resolve(bundle, connection, "m1", ResolveAnswer.APPLIED)


def test_a_statement_resolved_as_retry_is_run_again(connection: Connection) -> None:
    """The next run starts with the statement."""
    bundle = interrupted(connection)
    resolve(bundle, connection, "m1", ResolveAnswer.RETRY)
    with pytest.raises(StatementFailedError, match="unknown_effect"):
        migrate(bundle, connection)
    connection.execute("CREATE PROCEDURE unknown_effect() LANGUAGE sql AS ''")
    assert migrate(bundle, connection).applied == ("m1",)


def test_a_failed_statement_run_by_hand_is_skipped(connection: Connection) -> None:
    """Resolving the last statement of a file completes it, including the ledger row."""
    bundle = bundle_of(("SELECT 1", "INSERT INTO missing VALUES (1)"))
    with pytest.raises(StatementFailedError):
        migrate(bundle, connection)
    assert resolve(bundle, connection, "m0", ResolveAnswer.APPLIED).finished
    assert read_plan(connection, bundle).up_to_date
    assert len(read_state(connection, bundle).applied) == 1


def test_a_file_that_lost_its_session_is_completed_by_hand(connection: Connection, database: str) -> None:
    """A killed run leaves no failed statement; each remaining statement can be resolved nevertheless."""
    temporary = ("CREATE TABLE t (n integer)", "CREATE TEMP TABLE scratch (n integer)")
    rest = ("INSERT INTO t SELECT n FROM scratch, missing", "INSERT INTO t SELECT 2 FROM scratch", "SELECT 3")
    with pytest.raises(StatementFailedError):
        migrate(bundle_of((*temporary, *rest)), connection)
    connection.execute("UPDATE mosaic.migration_progress SET failed_statement = NULL")
    bundle = bundle_of((*temporary, *rest))
    with psycopg.connect(database, autocommit=True) as fresh:
        for number in (3, 4):
            with pytest.raises(SessionLostError, match="temporary objects"):
                migrate(bundle, fresh)
            with pytest.raises(SessionLostError):
                resolve(bundle, fresh, "m0", ResolveAnswer.RETRY)
            assert resolve(bundle, fresh, "m0", ResolveAnswer.APPLIED).statement == number
        assert migrate(bundle, fresh).applied == ("m0",)


@pytest.mark.parametrize(
    ("edited", "summary"),
    [
        (("SELECT 1", "SELECT\n20", "SELECT 3"), r"changed statement 2; statement 2 \(line 3\) is now: SELECT 20"),
        (("SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4"), "added statement 4"),
        (("SELECT 1", "SELECT 3"), "removed statement 2"),
        (("SELECT 1", "SELECT 2", "SELECT 3\n"), "only white space"),
    ],
)
def test_drift_names_the_statements(connection: Connection, edited: tuple[str, ...], summary: str) -> None:
    """The error says which statements of the applied file were changed."""
    migrate(bundle_of(("SELECT 1", "SELECT 2", "SELECT 3")), connection)
    with pytest.raises(DriftError, match=summary):
        migrate(bundle_of(edited), connection)


def other_database(connection: Connection, name: str) -> Connection:
    """Open another database of the same server."""
    return psycopg.connect(make_conninfo(connection.info.dsn, dbname=name), autocommit=True)


def drop_records(connection: Connection) -> None:
    """Drop ledger and progress, as in a database created by other means."""
    connection.execute("DROP SCHEMA drizzle, mosaic CASCADE")


def scratch_databases(connection: Connection) -> int:
    """Return the number of scratch databases that were not dropped."""
    rows = connection.execute("SELECT count(*)::int FROM pg_database WHERE datname LIKE 'mosaic_baseline_%'").fetchone()
    assert rows is not None
    return int(str(rows[0]))


def test_each_of_two_bundles_is_adopted(connection: Connection) -> None:
    """The other bundle's objects are no difference, whichever of the two is adopted first."""
    for bundle, other in ((GATEWAY, STORAGE), (STORAGE, GATEWAY)):
        migrate(GATEWAY, connection)
        migrate(STORAGE, connection)
        drop_records(connection)
        for first, second in ((bundle, other), (other, bundle)):
            done = baseline(
                first,
                connection,
                lambda: scratch_on(connection, lambda name: other_database(connection, name)),
                to=first.migrations[-1].tag,
                others=[second],
            )
            assert (done.differences, done.written) == ((), True)
            assert read_plan(connection, first).up_to_date


def test_a_database_created_by_other_means_is_adopted(connection: Connection) -> None:
    """The ledger is written without running anything; a second baseline is refused."""
    for bundle in (GATEWAY, STORAGE):
        migrate(bundle, connection)
    drop_records(connection)
    done = baseline(
        GATEWAY,
        connection,
        lambda: scratch_on(connection, lambda name: other_database(connection, name)),
        to=GATEWAY.migrations[-1].tag,
        others=[STORAGE],
    )
    assert (len(done.tags), done.differences, done.written) == (10, (), True)
    assert read_plan(connection, GATEWAY).up_to_date
    assert scratch_databases(connection) == 0
    edited = replace(GATEWAY.migrations[0], hash="0" * 64, statements=GATEWAY.migrations[0].statements[1:])
    with pytest.raises(DriftError, match="removed statement 1"):
        read_plan(connection, replace(GATEWAY, migrations=(edited, *GATEWAY.migrations[1:])))
    with pytest.raises(LedgerNotEmptyError):
        baseline(
            GATEWAY,
            connection,
            lambda: scratch_on(connection, lambda name: other_database(connection, name)),
            to="0000_auth",
        )


def test_a_difference_is_shown_before_anything_is_written(connection: Connection) -> None:
    """Missing and extra objects are listed, and nothing is written unless the differences are accepted."""
    migrate(GATEWAY, connection)
    drop_records(connection)
    connection.execute("ALTER TABLE users DROP COLUMN image; CREATE TABLE mine (n integer)")

    def run_baseline(*, accept_differences: bool = False, dry_run: bool = False) -> object:
        return baseline(
            GATEWAY,
            connection,
            lambda: scratch_on(connection, lambda name: other_database(connection, name)),
            to=GATEWAY.migrations[-1].tag,
            accept_differences=accept_differences,
            dry_run=dry_run,
        )

    with pytest.raises(BaselineDiffersError, match=r"- column public.users.image") as refused:
        run_baseline()
    assert "+ table public.mine" in refused.value.details["differences"]
    assert connection.execute("SELECT to_regnamespace('drizzle')").fetchone() == (None,)
    run_baseline(dry_run=True)
    assert connection.execute("SELECT to_regnamespace('drizzle')").fetchone() == (None,)
    run_baseline(accept_differences=True)
    assert read_plan(connection, GATEWAY).up_to_date
    assert scratch_databases(connection) == 0


SCHEMA = """
CREATE SCHEMA s;
CREATE TABLE t (n integer, s text); CREATE TABLE u (n integer); CREATE VIEW v AS SELECT n FROM t;
CREATE TABLE p (n integer) PARTITION BY RANGE (n); CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE FUNCTION h() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
CREATE POLICY y ON t USING (n > 0); CREATE SEQUENCE q; CREATE DOMAIN d AS integer; CREATE TYPE c AS (a integer);
"""


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE t FORCE ROW LEVEL SECURITY",
        "ALTER TABLE t SET UNLOGGED",
        "ALTER TABLE t SET (fillfactor = 50)",
        'ALTER TABLE t ALTER COLUMN s TYPE text COLLATE "C"',
        "ALTER TABLE t ADD COLUMN m integer GENERATED ALWAYS AS (n + 1) STORED",
        "ALTER TABLE t DISABLE TRIGGER g",
        "ALTER VIEW v SET (security_barrier = true)",
        "ALTER TABLE t INHERIT u",
        "ALTER TABLE p DETACH PARTITION p1",
        "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
        "ALTER POLICY y ON t TO pg_monitor",
        "ALTER SEQUENCE q INCREMENT BY 2",
        "ALTER SEQUENCE q CYCLE",
        "ALTER DOMAIN d SET NOT NULL",
        "ALTER DOMAIN d SET DEFAULT 1",
        "ALTER DOMAIN d ADD CHECK (VALUE > 0)",
        "ALTER TYPE c ADD ATTRIBUTE b integer",
        "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING",
        "CREATE STATISTICS x ON n, s FROM t",
        "CREATE AGGREGATE a (integer) (SFUNC = int4pl, STYPE = integer)",
        "CREATE OPERATOR === (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4eq)",
        "CREATE TYPE z AS RANGE (SUBTYPE = integer)",
        'CREATE COLLATION k FROM "C"',
        "CREATE PUBLICATION b FOR TABLE t",
        "CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION h()",
        "DROP SCHEMA s",
    ],
)
def test_each_kind_of_object_is_compared(postgres_server: PostgresServer, change: str) -> None:
    """Changes of the schema change its lines; owners, comments and data do not."""
    name = postgres_server.create_database(prefix="compared")
    with postgres_server.connect(name) as connection:
        connection.execute(SCHEMA.encode())
        before = schema_lines(connection)
        connection.execute("COMMENT ON TABLE t IS 'x'; INSERT INTO u VALUES (1); ALTER TABLE u OWNER TO pg_monitor")
        assert schema_lines(connection) == before
        connection.execute(change.encode())
        assert differences(before, schema_lines(connection))


def write_folder(folder: Path, files: dict[str, str], tags: list[str]) -> Path:
    """Write a folder as drizzle-kit does, including a snapshot."""
    (folder / "meta").mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    entries = [{"idx": i, "version": "7", "when": i + 1, "tag": tag, "breakpoints": True} for i, tag in enumerate(tags)]
    journal = {"version": "7", "dialect": "postgresql", "entries": entries}
    (folder / "meta" / "_journal.json").write_text(json.dumps(journal))
    (folder / "meta" / "0000_snapshot.json").write_text("{}")
    return folder


def test_a_folder_of_drizzle_kit_is_a_bundle(connection: Connection, tmp_path: Path) -> None:
    """It needs no hash lock, and its snapshots are ignored."""
    folder = write_folder(tmp_path / "drizzle", {"0000_a.sql": "CREATE TABLE a (n integer)"}, ["0000_a"])
    bundle = Bundle.from_directory(folder)
    assert bundle.name == "drizzle"
    assert migrate(bundle, connection).applied == ("0000_a",)


@pytest.mark.parametrize(
    ("files", "tags", "summary"),
    [
        ({"0000_a.sql": "SELECT 1"}, ["0000_a", "0001_b"], "0001_b.sql is named by the journal"),
        ({"0000_a.sql": "SELECT 1"}, [], "has no entries"),
        ({}, [], "has no entries"),
        ({}, ["0000_a"], "0000_a.sql is named by the journal"),
    ],
)
def test_a_folder_without_what_it_should_have_is_refused(
    tmp_path: Path, files: dict[str, str], tags: list[str], summary: str
) -> None:
    """A missing file, a journal without entries and a folder without SQL are errors, not an empty schema."""
    with pytest.raises(BundleError, match=summary):
        Bundle.from_directory(write_folder(tmp_path / "drizzle", files, tags))


def test_a_file_that_the_journal_does_not_name_never_runs(connection: Connection, tmp_path: Path) -> None:
    """As with drizzle-orm; the bundle names the file. Files in subfolders are there on purpose."""
    files = {"0000_a.sql": "CREATE TABLE a ()", "0001_left_over.sql": "CREATE TABLE b ()", "meta/draft.sql": "-"}
    folder = write_folder(tmp_path / "drizzle", files, ["0000_a"])
    bundle = Bundle.from_directory(folder)
    assert bundle.unnamed == ("0001_left_over.sql",)
    assert migrate(bundle, connection).applied == ("0000_a",)
    assert connection.execute("SELECT to_regclass('b')").fetchone() == (None,)
    (folder / LOCK_NAME).write_bytes(make_lock("drizzle", read_directory(folder)))
    with pytest.raises(BundleError, match=r"0001_left_over\.sql has no entry"):
        Bundle.from_directory(folder)


def test_a_half_applied_file_is_completed_with_other_line_endings(connection: Connection, tmp_path: Path) -> None:
    """It ends as it began, and is then applied for either file; resolve works on it as well."""
    text = "CREATE TABLE\na ();\n--> statement-breakpoint\nSELECT\n1 / 0;\n--> statement-breakpoint\nSELECT\n1;"
    folder = write_folder(tmp_path / "drizzle", {"0000_a.sql": text}, ["0000_a"])
    with pytest.raises(StatementFailedError):
        migrate(Bundle.from_directory(folder), connection)
    (folder / "0000_a.sql").write_bytes(text.replace("\n", "\r\n").encode())
    windows = Bundle.from_directory(folder)
    assert resolve(windows, connection, "0000_a", ResolveAnswer.APPLIED).statement == 2
    assert migrate(windows, connection).applied == ("0000_a",)
    assert [row.hash for row in read_state(connection, windows).applied] == [file_hash(text.encode())]
    assert migrate(windows, connection).other_line_endings == ("0000_a",)


def test_a_folder_without_migrations_is_refused(tmp_path: Path) -> None:
    """An empty folder and a missing folder are both errors."""
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError):
            Bundle.from_directory(path)
