"""drizzle-kit 1.0's layout: which folders are migrations, their times and their order, and a new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaic_gateway.migrations.authoring import new_migration
from mosaic_gateway.migrations.bundle import Bundle, BundleError
from mosaic_gateway.migrations.folder_layout import folder_entries
from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, check_bundle, make_lock, read_directory
from mosaic_gateway.migrations.parse import JournalFormatError, file_hash

FIRST, SECOND = "20260101000000_a", "20260102000000_b"


def tags(*names: str) -> list[str]:
    """Return the folders *names* in the order in which they run."""
    return [entry.tag for entry in folder_entries(f"{name}/migration.sql" for name in names)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two migrations, written in reverse order, and drizzle-kit's snapshots."""
    for name in (SECOND, FIRST):
        (tmp_path / "sql" / name).mkdir(parents=True)
        (tmp_path / "sql" / name / "snapshot.json").write_text('{"version":"8","dialect":"postgres"}')
        (tmp_path / "sql" / name / "migration.sql").write_text(f"CREATE TABLE {name[-1]} (id int);\r\n")
    return tmp_path / "sql"


def test_a_folder_is_a_bundle(folder: Path) -> None:
    """Tags are the folders' names in their order, ``when`` the time in UTC, the hash that of all bytes."""
    bundle = Bundle.from_directory(folder)
    assert [(migration.tag, migration.file) for migration in bundle.migrations] == [
        (FIRST, f"{FIRST}/migration.sql"),
        (SECOND, f"{SECOND}/migration.sql"),
    ]
    assert [migration.when for migration in bundle.migrations] == [1767225600000, 1767312000000]
    assert bundle.migrations[0].hash == file_hash(b"CREATE TABLE a (id int);\r\n")
    assert (bundle.in_folders, bundle.unnamed) == (True, ())


def test_both_layouts_in_one_folder_are_refused(folder: Path) -> None:
    """drizzle-orm 0.45 would run one half and 1.0 refuses the folder; the gate refuses it as well."""
    (folder / "meta").mkdir()
    (folder / "0000_a.sql").write_text("SELECT 1;")
    (folder / JOURNAL_NAME).write_text('{"entries": [{"tag": "0000_a", "when": 1}]}')
    with pytest.raises(BundleError, match="two layouts"):
        Bundle.from_directory(folder)
    (folder / LOCK_NAME).write_bytes(make_lock("sql", read_directory(folder)))
    with pytest.raises(BundleError, match=r"1\.0's layout, which has no journal"):
        Bundle.from_directory(folder)


def test_files_that_never_run_are_named(folder: Path) -> None:
    """A file outside of the folders, and one in a migration's folder that has no migration.sql, but no down script."""
    (folder / "0000_old.sql").write_text("SELECT 1;")
    (folder / FIRST / "down.sql").write_text("SELECT 1;")
    (folder / "drafts").mkdir()
    (folder / "drafts" / "a.sql").write_text("SELECT 1;")
    (folder / "20260103000000_c").mkdir()
    (folder / "20260103000000_c" / "migrations.sql").write_text("SELECT 1;")
    assert Bundle.from_directory(folder).unnamed == ("0000_old.sql", "20260103000000_c/migrations.sql")


@pytest.mark.parametrize("name", ["drafts", "0000_a", "2026010100000_a", "99999999999999_a"])
def test_a_folder_without_a_time_is_refused(folder: Path, name: str) -> None:
    """drizzle-orm would run its migration.sql and then fail to record it."""
    (folder / name).mkdir()
    (folder / name / "migration.sql").write_text("SELECT 1;")
    with pytest.raises(BundleError, match=name):
        Bundle.from_directory(folder)
    with pytest.raises(JournalFormatError):
        tags(name)


def test_folders_in_the_same_second_run_in_the_order_of_a_collation() -> None:
    """As JavaScript's localeCompare sorts: punctuation, digits, letters; a lower-case letter before its capital."""
    names = ["a", "A", "a-1", "A_2", "a1", "add_1", "add1", "Adda", "b", "B"]
    expected = ["a", "A", "A_2", "a-1", "a1", "add_1", "add1", "Adda", "b", "B"]
    second = "20260101000000_"
    assert tags(*(second + name for name in reversed(names))) == [second + name for name in expected]


@pytest.mark.parametrize(
    ("digits", "when"),
    [("20261301000000", "20270101000000"), ("20260132000000", "20260201000000"), ("20260101240000", "20260102000000")],
)
def test_times_overflow_as_in_javascript(digits: str, when: str) -> None:
    """``Date.UTC`` carries a 13th month, a 32nd day and a 25th hour over."""
    first, second = (folder_entries([f"{name}_x/migration.sql"])[0].when for name in (digits, when))
    assert first == second


def test_the_next_migration(folder: Path) -> None:
    """It is a folder, named by the current time, or by the second after the newest one; no journal is created."""
    now = 1800000000999
    created = new_migration(folder, "Add users", now=now)
    assert created.tag == "20270115080000_add_users"
    assert (created.index, created.when, created.locked) == (2, 1800000000000, False)
    assert created.file == folder / created.tag / "migration.sql"
    assert created.file.read_text().startswith(f"-- {created.tag}\n")
    assert new_migration(folder, "x", now=now).tag == "20270115080001_x"
    assert new_migration(folder, "y", now=5).tag == "20270115080002_y"
    assert [migration.tag[15:] for migration in Bundle.from_directory(folder).migrations] == [
        "a", "b", "add_users", "x", "y"
    ]  # fmt: skip
    assert not (folder / JOURNAL_NAME).exists()


def test_a_locked_folder(folder: Path) -> None:
    """A hash lock is verified and updated as in the other layout."""
    for name in (FIRST, SECOND):
        (folder / name / "snapshot.json").unlink()
        (folder / name / "migration.sql").write_text("SELECT 1;")
    (folder / LOCK_NAME).parent.mkdir()
    (folder / LOCK_NAME).write_bytes(make_lock("sql", read_directory(folder)))
    assert new_migration(folder, "x", now=1800000000000).locked
    assert check_bundle("sql", read_directory(folder)) == ()
    assert len(Bundle.from_directory(folder).migrations) == 3
    (folder / FIRST / "down.sql").write_text("SELECT 1;")
    with pytest.raises(BundleError, match=r"down\.sql has no entry"):
        Bundle.from_directory(folder)
