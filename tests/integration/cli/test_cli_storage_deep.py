"""``storage plan``, ``resolve`` and ``baseline``; --from and --database-url; JSON events."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.cli_home import MakePlace, Place

from mosaic_gateway.migrations import ledger
from mosaic_gateway.migrations.advisory_lock import KEY
from mosaic_gateway.migrations.bundle import LEDGERS

MARK = "\n--> statement-breakpoint\n"


@pytest.fixture
def nowhere(make_place: MakePlace) -> Place:
    """A home without a usable database; the tests use --database-url."""
    return make_place()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in drizzle-kit's format, with a nontransactional statement and one that fails."""
    directory = tmp_path / "drizzle"
    (directory / "meta").mkdir(parents=True)
    tmp_path.chmod(0o755)
    entries = [{"idx": 0, "version": "7", "when": 1, "tag": "0000_notes", "breakpoints": True}]
    journal = {"version": "7", "dialect": "postgresql", "entries": entries}
    (directory / "meta" / "_journal.json").write_text(json.dumps(journal))
    statements = (
        "CREATE TABLE notes (n integer)",
        "CREATE INDEX CONCURRENTLY notes_n ON notes (n)",
        "INSERT INTO notes\nSELECT missing FROM notes",
    )
    (directory / "0000_notes.sql").write_text(MARK.join(statements))
    return directory


def ask(place: Place, verb: str, folder: Path, url: str, *words: str, code: int = 0) -> dict[str, Any]:
    """Run a verb with --from *folder* and --database-url *url*."""
    return place.ask("storage", verb, "--from", str(folder), "--database-url", url, *words, code=code)


def schemas(url: str) -> list[str]:
    """Return the schemas except PostgreSQL's own."""
    with psycopg.connect(url) as connection:
        query = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_|^information' ORDER BY 1"
        return [str(name) for (name,) in connection.execute(query)]


def test_plan_shows_every_statement_and_writes_nothing(nowhere: Place, folder: Path, database: str) -> None:
    """Plan creates no schema, and shows number, line and text of each statement."""
    planned = ask(nowhere, "plan", folder, database)["bundles"]
    assert [(b["bundle"], b["applied"], len(b["pending"])) for b in planned] == [("drizzle", 0, 1)]
    statements = planned[0]["pending"][0]["statements"]
    assert [(s["number"], s["line"]) for s in statements] == [(1, 1), (2, 3), (3, 5)]
    assert schemas(database) == ["public"]
    done = nowhere.run("storage", "plan", "--from", str(folder), "--database-url", database)
    assert "    3. line 5: INSERT INTO notes SELECT missing FROM notes\n" in done.out


def test_a_file_that_the_journal_does_not_name_is_a_warning(nowhere: Place, folder: Path, database: str) -> None:
    """Plan, status and migrate name the file, before and after the run, as JSON and as text."""
    (folder / "0000_notes.sql").write_text("SELECT 1")
    (folder / "0001_left_over.sql").write_text("SELECT 1 / 0")
    warning = "0001_left_over.sql has no entry in the journal: it never runs"
    for verb in ("plan", "status", "migrate", "plan", "status", "migrate"):
        assert [bundle["warnings"] for bundle in ask(nowhere, verb, folder, database)["bundles"]] == [[warning]]
        done = nowhere.run("storage", verb, "--from", str(folder), "--database-url", database)
        assert (done.code, f"warning: {warning}\n" in done.out) == (0, True)


def test_two_folders_in_one_database(nowhere: Place, database: str, tmp_path: Path) -> None:
    """Each has a ledger of its own, --ledger; in a shared one, the second folder is refused as foreign."""
    tmp_path.chmod(0o755)
    folders = []
    for name in ("one", "two"):
        folder = tmp_path / name
        (folder / "meta").mkdir(parents=True)
        journal = {"entries": [{"idx": 0, "when": 1700000000000, "tag": "0000_init"}]}
        (folder / "meta" / "_journal.json").write_text(json.dumps(journal))
        (folder / "0000_init.sql").write_text(f"CREATE TABLE {name} ()--> statement-breakpoint\nSELECT 1")
        folders.append(folder)
    one, two = folders
    (two / "0000_init.sql").rename(two / "0000_first.sql")
    (two / "meta" / "_journal.json").write_text(json.dumps(journal).replace("0000_init", "0000_first"))
    ask(nowhere, "migrate", one, database)
    for verb in ("plan", "migrate", "status"):
        error = ask(nowhere, verb, two, database, code=7)
        assert error["code"] == "LEDGER_UNKNOWN_ROW"
        assert "another application records its migrations there" in error["message"]
        assert "--ledger NAME" in error["hint"]
        assert "mosaic-gateway storage status --from" in error["hint"]
    for words, table in ((("--ledger", "__two"), "drizzle.__two"), (("--ledger", "own.Ledger"), 'own."Ledger"')):
        assert len(ask(nowhere, "plan", two, database, *words)["bundles"][0]["pending"]) == 1
        assert ask(nowhere, "migrate", two, database, *words)["bundles"][0]["applied"] == ["0000_first"]
        states = ask(nowhere, "status", two, database, *words)["bundles"][0]
        assert (states["ledger_rows"], states["migrations"][0]["state"]) == (1, "applied")
        with psycopg.connect(database, autocommit=True) as connection:
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (1,)
            connection.execute("DROP TABLE two")
    assert ask(nowhere, "plan", one, database)["bundles"][0]["pending"] == []
    (two / "0000_first.sql").write_text("SELECT 2")
    hint = ask(nowhere, "migrate", two, database, "--ledger", "own.Ledger", code=7)["hint"]
    assert "pip" not in hint
    error = ask(nowhere, "baseline", two, database, "--to", "0000_first", "--ledger", "own.Ledger", code=7)
    assert f"storage status --from {two} --ledger own.Ledger --database-url …" in error["hint"]


@pytest.mark.slow
def test_a_baseline_with_a_ledger_in_the_schema_public(nowhere: Place, folder: Path, database: str) -> None:
    """The ledger's table is not part of the comparison."""
    (folder / "0000_notes.sql").write_text("CREATE TABLE notes ()")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE notes ()")
    words = ("--ledger", "public.applied")
    result = ask(nowhere, "baseline", folder, database, "--to", "0000_notes", *words)
    assert (result["differences"], result["written"]) == ([], True)
    assert ask(nowhere, "plan", folder, database, *words)["bundles"][0]["pending"] == []


@pytest.mark.parametrize("name", ["", ".", "a.", ".b", "a.b.c", "x" * 64])
def test_a_ledger_that_is_no_table_name(nowhere: Place, folder: Path, database: str, name: str) -> None:
    """A wrong name, and --ledger without --from, are usage errors."""
    words = ("storage", "plan", "--database-url", database, "--ledger", name)
    assert nowhere.run(*words, "--from", str(folder)).code == 2
    assert "--ledger needs --from" in nowhere.ask(*words[:-1], "own", code=2)["message"]


def test_a_ledger_that_is_another_table(nowhere: Place, folder: Path, database: str) -> None:
    """Tables without the columns of a ledger, or with columns of other types, are refused; nothing is written."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.people (id integer, name text)")
        connection.execute("CREATE TABLE public.jobs (id uuid, hash text, created_at timestamptz)")
    for verb, table in (("plan", "people"), ("migrate", "people"), ("status", "jobs"), ("migrate", "jobs")):
        error = ask(nowhere, verb, folder, database, "--ledger", f"public.{table}", code=7)
        assert (error["code"], f"public.{table} is not a ledger" in error["message"]) == ("NOT_A_LEDGER", True)
        assert "--ledger" in error["hint"]
    assert schemas(database) == ["public"]


@pytest.mark.parametrize(("before", "after"), [("\n", "\r\n"), ("\r\n", "\n")])
def test_other_line_endings_are_a_warning(nowhere: Place, folder: Path, database: str, before: str, after: str) -> None:
    """A file that was applied with other line endings is applied; plan, status, migrate and baseline say so."""
    file, text = folder / "0000_notes.sql", "CREATE TABLE notes (\n  n integer\n);\n"
    file.write_bytes(text.replace("\n", before).encode())
    ask(nowhere, "migrate", folder, database)
    file.write_bytes(text.replace("\n", after).encode())
    for verb in ("plan", "status", "migrate"):
        [bundle] = ask(nowhere, verb, folder, database)["bundles"]
        assert "0000_notes" in bundle["warnings"][0]
        assert "other line endings" in bundle["warnings"][0]
        assert verb != "status" or bundle["migrations"][0]["state"] == "applied"
        done = nowhere.run("storage", verb, "--from", str(folder), "--database-url", database)
        assert f"warning: {bundle['warnings'][0]}\n" in done.out
    error = ask(nowhere, "baseline", folder, database, "--to", "0000_notes", code=7)
    assert error["code"] == "LEDGER_NOT_EMPTY"
    assert "1 for these files with other line endings" in error["message"]


def test_a_folder_of_drizzle_kit_1(nowhere: Place, database: str, tmp_path: Path) -> None:
    """A migration that ``storage new`` added to a folder in 1.0's layout is planned, applied and shown as applied."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "drizzle"
    (folder / "20260101000000_a").mkdir(parents=True)
    (folder / "20260101000000_a" / "migration.sql").write_text("CREATE TABLE a (id int)")
    folder.chmod(0o777)
    created = nowhere.ask("storage", "new", "--dir", str(folder), "b")
    assert Path(created["file"]).read_text().startswith(f"-- {created['tag']}\n")
    tags = ["20260101000000_a", created["tag"]]
    (folder / "old.sql").write_text("SELECT 1")
    [planned] = ask(nowhere, "plan", folder, database)["bundles"]
    assert [one["tag"] for one in planned["pending"]] == tags
    assert planned["warnings"] == ["old.sql is not the migration.sql of a folder: it never runs"]
    assert ask(nowhere, "migrate", folder, database)["bundles"][0]["applied"] == tags
    states = ask(nowhere, "status", folder, database)["bundles"][0]["migrations"]
    assert [(one["tag"], one["state"]) for one in states] == [(tag, "applied") for tag in tags]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT name FROM drizzle.__drizzle_migrations").fetchall() == [(t,) for t in tags]


def test_plan_equals_what_runs(nowhere: Place, database: str) -> None:
    """Migrate applies what plan lists, and then plan lists nothing."""
    planned = nowhere.ask("storage", "plan", "--database-url", database)["bundles"]
    applied = nowhere.ask("storage", "migrate", "--database-url", database)["bundles"]
    assert [[m["tag"] for m in bundle["pending"]] for bundle in planned] == [bundle["applied"] for bundle in applied]
    again = nowhere.ask("storage", "plan", "--database-url", database)["bundles"]
    assert [bundle["pending"] for bundle in again] == [[], []]


@pytest.mark.slow
def test_resolve_a_failed_statement(nowhere: Place, folder: Path, database: str) -> None:
    """The error shows the position, status the statement; after resolve the migration is applied."""
    done = nowhere.run("storage", "migrate", "--from", str(folder), "--database-url", database)
    assert done.code == 4
    assert "0000_notes.sql, statement 3 of 3, line 6: column" in done.err
    assert "\n  5 | INSERT INTO notes\n  6 | SELECT missing FROM notes\n    |        ^\n" in done.err
    assert f"storage migrate --from {folder} --database-url …: it resumes at this statement" in done.err
    entry = ask(nowhere, "status", folder, database)["bundles"][0]["migrations"][0]
    assert (entry["state"], entry["statements_applied"], entry["failed"]["statement"]) == ("half applied", 2, 3)
    planned = ask(nowhere, "plan", folder, database)["bundles"][0]["pending"][0]
    assert (planned["begins_with"], len(planned["statements"])) == (3, 1)
    assert ask(nowhere, "resolve", folder, database, "0000_notes", code=2)["code"] == "USAGE"
    answer = ["0000_notes", "--applied"]
    assert ask(nowhere, "resolve", folder, database, *answer)["finished"] is True
    assert ask(nowhere, "resolve", folder, database, *answer, code=7)["code"] == "NOTHING_TO_RESOLVE"
    assert ask(nowhere, "resolve", folder, database, "0001_other", "--retry", code=2)["code"] == "USAGE"
    assert ask(nowhere, "migrate", folder, database)["bundles"][0]["already_applied"] == 1


def test_hint_repeats_folder_and_database(nowhere: Place, folder: Path, database: str, tmp_path: Path) -> None:
    """The command in the hint has the same folder and database, and no password."""
    file = tmp_path / "the url"
    file.write_text(f"{database} password=s3cret")
    where = ("--from", str(folder), "--database-url-file", str(file))
    hint = nowhere.ask("storage", "migrate", *where, code=4)["hint"]
    assert f"mosaic-gateway storage migrate --from {folder} --database-url-file '{file}':" in hint
    error = ask(nowhere, "migrate", folder, f"{database} password=s3cret", code=4)
    assert f"storage migrate --from {folder} --database-url …:" in error["hint"]
    assert "s3cret" not in json.dumps(error)


@pytest.mark.slow
def test_progress_on_a_terminal(nowhere: Place, folder: Path, database: str) -> None:
    """A terminal shows the running statement with its elapsed time, then its duration."""
    sql = MARK.join(("SET my.flag = '1'", "SELECT pg_sleep(2.2), '[bold]'", "SELECT 1"))
    (folder / "0000_notes.sql").write_text(sql)
    words = nowhere.argv("storage", "migrate", "--from", str(folder), "--database-url", database)
    ours, theirs = pty.openpty()
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=theirs, env=nowhere.environ({"TERM": "xterm"})) as run,
    ):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # EIO at the end of a terminal on Linux
            while piece := terminal.read(4096):
                shown += piece
        assert run.wait() == 0
    text = shown.decode()
    running = text.index("0000_notes: statement 2 of 3…")
    assert running < text.index("0000_notes: statement 2 of 3… 1 s") < text.index("statement 2 of 3 (2.")


@pytest.mark.slow
def test_busy_event(nowhere: Place, folder: Path, database: str) -> None:
    """While waiting for the lock, the holder is reported immediately, not only after the timeout."""
    with psycopg.connect(database, autocommit=True, application_name="the other") as other:
        other.execute("SELECT pg_advisory_lock(%s, %s)", KEY)
        words = ("--database-url", database, "--from", str(folder), "--lock-timeout", "1")
        done = nowhere.run("storage", "migrate", "--json", *words)
        holder = other.info.backend_pid
    assert done.code == 6
    [busy] = [event for event in map(json.loads, done.err.splitlines()) if event["event"] == "busy"]
    assert (busy["pid"], busy["application"]) == (holder, "the other")


def test_status_shows_unknown_rows(nowhere: Place, folder: Path, database: str) -> None:
    """The hint about unknown ledger rows names ``storage status``, which shows them."""
    with psycopg.connect(database, autocommit=True) as connection:
        ledger.create(connection, LEDGERS["gateway"])
        connection.execute("INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('abcdef', -5)")
    error = ask(nowhere, "plan", folder, database, code=7)
    assert error["code"] == "LEDGER_UNKNOWN_ROW"
    assert "storage status" in error["hint"]
    done = nowhere.run("storage", "status", "--from", str(folder), "--database-url", database)
    assert (done.code, "unknown row: hash abcdef, when -5\n" in done.out) == (7, True)


def test_status_of_a_statement_that_the_file_no_longer_has(nowhere: Place, folder: Path, database: str) -> None:
    """Status shows an interrupted statement even if the file has been shortened since and no longer contains it."""
    ask(nowhere, "migrate", folder, database, code=4)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("UPDATE mosaic.migration_progress SET intent = 3, intent_note = '{}'")
    (folder / "0000_notes.sql").write_text("CREATE TABLE notes (n integer)")
    entry = ask(nowhere, "status", folder, database, code=7)["details"]
    assert entry["applied"] == 2
    done = nowhere.run("storage", "status", "--from", str(folder), "--database-url", database)
    assert "interrupted in statement 3" in done.out


def test_events_are_json_lines(nowhere: Place, database: str) -> None:
    """With --json, progress events are JSON lines on standard error."""
    done = nowhere.run("storage", "migrate", "--database-url", database, "--json")
    events = [json.loads(line) for line in done.err.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "plan"
    assert kinds.count("statement") == sum(event["statements"] for event in events if event["event"] == "plan")
    assert kinds.count("migration") == sum(event["migrations"] for event in events if event["event"] == "plan")
    assert all(event["seconds"] >= 0 for event in events if event["event"] == "statement")


def test_plan_refuses_what_migrate_refuses(nowhere: Place, folder: Path, database: str) -> None:
    """A plan never shows statements that would not run; status shows the state beside the error."""
    file = next(folder.glob("*.sql"))
    file.write_text(
        file.read_text() + "--> statement-breakpoint\nLOCK TABLE notes;\n--> statement-breakpoint\nVACUUM;\n"
    )
    for verb in ("plan", "status", "migrate"):
        error = ask(nowhere, verb, folder, database, code=4)
        assert (error["code"], "VACUUM" in error["message"], "LOCK" in error["message"]) == (
            "CHUNK_REFUSED",
            True,
            True,
        )
    assert schemas(database) == ["public"]


@pytest.mark.slow
def test_baseline(nowhere: Place, database: str) -> None:
    """A database without a ledger is compared; it is refused if it differs, else its ledger is written."""
    last = nowhere.ask("storage", "migrate", "--database-url", database)["bundles"][0]["applied"][-1]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP SCHEMA drizzle, mosaic CASCADE; ALTER TABLE users ADD COLUMN mine text")
    words = ("--to", last, "--database-url", database)
    error = nowhere.ask("storage", "baseline", *words, code=7)
    assert error["code"] == "BASELINE_DIFFERS"
    assert error["details"]["differences"] == ["+ column public.users.mine text"]
    assert schemas(database) == ["public"]
    assert nowhere.ask("storage", "baseline", *words, "--dry-run")["written"] is False
    assert schemas(database) == ["public"]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE users DROP COLUMN mine")
    assert nowhere.ask("storage", "baseline", *words)["written"] is True
    planned = nowhere.ask("storage", "plan", "--database-url", database)["bundles"]
    assert [len(bundle["pending"]) for bundle in planned] == [0, 1]
    documents = ("--to", "0000_documents", "--database-url", database)
    assert nowhere.ask("storage", "baseline", *documents)["written"] is True
    assert [
        bundle["applied"] for bundle in nowhere.ask("storage", "migrate", "--database-url", database)["bundles"]
    ] == [
        [],
        [],
    ]


@pytest.mark.slow
def test_database_url_file(nowhere: Place, database: str, tmp_path: Path) -> None:
    """The URL, which may contain a password, can be read from a file."""
    file = tmp_path / "url"
    file.write_text(f"{database}\n")
    words = ("--database-url-file", str(file))
    assert len(nowhere.ask("storage", "status", *words)["bundles"]) == 2
    assert nowhere.ask("storage", "status", *words, "--database-url", database, code=2)["code"] == "USAGE"
    missing = ("--database-url-file", str(tmp_path / "missing"))
    assert nowhere.ask("storage", "status", *missing, code=2)["code"] == "USAGE"


def test_an_unreachable_database_and_a_wrong_folder(nowhere: Place, database: str, tmp_path: Path) -> None:
    """An unreachable database and a folder without migrations have error codes of their own."""
    unreachable = "postgresql://user@127.0.0.1:1/none"
    assert nowhere.ask("storage", "status", "--database-url", unreachable, code=3)["code"] == "SERVER_UNREACHABLE"
    assert ask(nowhere, "status", tmp_path, database, code=4)["code"] == "BUNDLE_INVALID"
