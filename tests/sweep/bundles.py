"""A bundle of 400 statements whose result shows whether each took effect exactly once."""

from __future__ import annotations

import json
import random
from pathlib import Path

from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, make_lock

MARK = "\n--> statement-breakpoint\n"
SEED = 20
STATEMENTS = 400
#: Files between those with inserts: statements that the runner must handle specially.
SPECIAL: tuple[tuple[str, ...], ...] = (
    ("CREATE INDEX CONCURRENTLY notes_n ON notes (n)",),
    ("CREATE INDEX CONCURRENTLY ON notes (step)", "CREATE INDEX CONCURRENTLY ON notes (step)"),
    ("VACUUM notes", "INSERT INTO notes (n) VALUES (-1)", "VACUUM (ANALYZE) counter"),
    ("CREATE UNIQUE INDEX CONCURRENTLY counter_id ON counter (id)", "REINDEX INDEX CONCURRENTLY counter_id"),
    ("SET search_path = other", "CREATE TABLE here (n integer)", "INSERT INTO here VALUES (1)",
     "CREATE INDEX CONCURRENTLY here_n ON here (n)", "INSERT INTO here SELECT count(*) + 1 FROM here"),
    ("SET my.step = '7'", "INSERT INTO notes (n) VALUES (-current_setting('my.step')::integer)",
     "SELECT set_config('my.step', '8', false)",
     "INSERT INTO notes (n) VALUES (-current_setting('my.step')::integer)", "RESET my.step"),
    ("DROP INDEX CONCURRENTLY notes_n", "CREATE INDEX CONCURRENTLY notes_n ON notes (n DESC)"),
    ("CREATE TYPE mood AS ENUM ('calm')", "ALTER TYPE mood ADD VALUE 'wild'",
     "CREATE TABLE moods (m mood DEFAULT 'wild')", "INSERT INTO moods DEFAULT VALUES"),
    ("CREATE TABLE parts (n integer) PARTITION BY RANGE (n)",
     "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
     "INSERT INTO parts VALUES (5)", "ALTER TABLE parts DETACH PARTITION parts_1 CONCURRENTLY",
     "INSERT INTO parts_1 VALUES (6)"),
    ("REINDEX TABLE CONCURRENTLY notes", "INSERT INTO notes (n) VALUES (-2); UPDATE counter SET n = n + 1"),
    ("DISCARD ALL", "INSERT INTO notes (n) VALUES (-3)"),
    ("INSERT INTO notes (n) VALUES (-4)", "SET LOCAL search_path = other", "CREATE TABLE grouped (n integer)",
     "INSERT INTO grouped VALUES (1)", "UPDATE grouped SET n = n + 1"),
    ("BEGIN; UPDATE counter SET n = n + 5", "INSERT INTO notes (n) VALUES (-5)", "COMMIT", "VACUUM counter",
     "START TRANSACTION ISOLATION LEVEL SERIALIZABLE; UPDATE counter SET n = n + 6", "UPDATE counter SET n = n + 7"),
    ("-- nothing but a comment",),
    ("",),
    ("DO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO notes (n) VALUES (-10 - i); END LOOP; END $$",
     "CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql BEGIN ATOMIC SELECT n * 2; SELECT n + n; END",
     "INSERT INTO notes (n) SELECT -twice(50)"),
    ("COMMIT", "CREATE INDEX CONCURRENTLY counter_n ON counter (n)"),
    ("UPDATE counter SET n = n + 5; BEGIN TRANSACTION; INSERT INTO notes (n) VALUES (-23); COMMIT",),
    ("CREATE TEMP TABLE planned (n integer) ON COMMIT DROP", "INSERT INTO planned VALUES (-24)",
     "INSERT INTO notes (n) SELECT n FROM planned"),
    ("LOCK TABLE counter", "UPDATE counter SET n = n + 7", "SAVEPOINT one", "INSERT INTO notes (n) VALUES (-25)",
     "RELEASE SAVEPOINT one"),
    ("DECLARE c CURSOR FOR SELECT n FROM counter FOR UPDATE", "FETCH c",
     "UPDATE counter SET n = n + 11 WHERE CURRENT OF c"),
)  # fmt: skip


def generated() -> dict[str, bytes]:
    """Return the files of the bundle: name -> content."""
    rng = random.Random(SEED)
    files: list[tuple[str, ...]] = [
        (
            "CREATE TABLE notes (n integer NOT NULL, step integer)",
            "CREATE TABLE counter (id integer, n integer); INSERT INTO counter VALUES (1, 0)",
            "CREATE SCHEMA other",
        )
    ]
    special = list(SPECIAL)
    left = STATEMENTS - len(files[0]) - sum(map(len, special))
    number = 0
    while left > 0 or special:
        size = min(left, rng.randint(3, 40))
        files.append(tuple(_effect(number + offset) for offset in range(size)))
        number, left = number + size, left - size
        files.extend(special.pop(0) for _ in range(min(len(special), 2)))
    assert sum(map(len, files)) == STATEMENTS
    return contents(files)


def _effect(number: int) -> str:
    match number % 4:
        case 0:
            return f"UPDATE counter SET n = n + {number}"
        case 1:
            # Records the order of execution as well.
            return f"INSERT INTO notes SELECT {number}, count(*) FROM notes"
        case _:
            return f"INSERT INTO notes (n) VALUES ({number})"


def contents(files: list[tuple[str, ...]]) -> dict[str, bytes]:
    """Return the files of a bundle with these statements per file, including journal and hash lock."""
    result = {f"{index:04}_file.sql": MARK.join(statements).encode() for index, statements in enumerate(files)}
    entries = [{"tag": name.removesuffix(".sql"), "when": 9000 - index} for index, name in enumerate(result)]
    result[JOURNAL_NAME] = json.dumps({"entries": entries}).encode()
    result[LOCK_NAME] = make_lock("bundle", result)
    return result


def write(directory: Path, files: dict[str, bytes]) -> Path:
    """Write *files* into *directory* and return it."""
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory
