"""Creating the next migration of a folder: complete and valid, or no change."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.migrations.authoring import (
    BundleFaultyError,
    FolderBusyError,
    MigrationNameError,
    WhenReversedError,
    _write_files,
    new_migration,
    slug_of,
)
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, check_bundle, make_lock, read_directory
from mosaic_gateway.migrations.lint.engine import lint_bundle_files, packaged_files

LATER = 1_900_000_000_000
#: The journal with one entry as drizzle-kit writes it: ``JSON.stringify(journal, null, 2)``.
DRIZZLE_JOURNAL = """\
{
  "version": "7",
  "dialect": "postgresql",
  "entries": [
    {
      "idx": 0,
      "version": "7",
      "when": 1900000000000,
      "tag": "0000_a",
      "breakpoints": true
    }
  ]
}"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged bundle of the gateway."""
    directory = tmp_path / "gateway"
    for name, content in packaged_files("gateway").items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def test_the_next_migration(folder: Path) -> None:
    """File, journal entry and lock are written; the bundle is valid, and other files are unchanged."""
    before = read_directory(folder)
    created = new_migration(folder, "Add user-names", now=LATER)
    assert (created.tag, created.index, created.when, created.locked) == ("0010_add_user_names", 10, LATER, True)
    after = read_directory(folder)
    assert check_bundle("gateway", after) == ()
    assert after.keys() - before.keys() == {"0010_add_user_names.sql"}
    assert {name for name in before if before[name] != after[name]} == {JOURNAL_NAME, LOCK_NAME}
    assert created.file.stat().st_mode & 0o777 == 0o644
    bundle = Bundle.from_directory(folder)
    assert [migration.tag for migration in bundle.migrations][-2:] == ["0009_pending_grants", "0010_add_user_names"]
    assert after[JOURNAL_NAME].startswith(before[JOURNAL_NAME].removesuffix(b"\n  ]\n}\n") + b",\n    {\n")
    assert after[JOURNAL_NAME].endswith(b"    }\n  ]\n}\n")


def test_lint_rejects_a_new_file_until_it_has_statements(folder: Path) -> None:
    """A new file has one finding, ``empty-migration``; with a statement it has none."""
    file = new_migration(folder, "x", now=LATER).file
    assert [str(finding.rule) for finding in lint_bundle_files(read_directory(folder))] == ["empty-migration"]
    file.write_text(f"{file.read_text()}ALTER TABLE users ADD COLUMN nick text;\n")
    assert lint_bundle_files(read_directory(folder)) == ()


def test_an_empty_folder_becomes_a_bundle(tmp_path: Path) -> None:
    """The first migration is 0000; the journal is written as drizzle-kit writes it, without a hash lock."""
    created = new_migration(tmp_path, "a", now=LATER)
    assert (created.tag, created.locked) == ("0000_a", False)
    assert sorted(read_directory(tmp_path)) == ["0000_a.sql", JOURNAL_NAME]
    assert (tmp_path / JOURNAL_NAME).read_text() == DRIZZLE_JOURNAL
    assert new_migration(tmp_path, "b", now=LATER + 1).tag == "0001_b"
    assert len(Bundle.from_directory(tmp_path).migrations) == 2


def test_a_drizzle_folder(tmp_path: Path) -> None:
    """Snapshots, other versions and unknown fields are retained; no hash lock is created."""
    (tmp_path / "meta").mkdir()
    journal = {"version": "6", "dialect": "postgresql", "x": "é\u2028", "entries": [
        {"idx": 0, "version": "6", "when": 5, "tag": "0000_lush_wolverine", "breakpoints": False, "y": None},
        {"idx": 1, "version": "6", "when": 7, "tag": "0007_odd", "breakpoints": True},
    ]}  # fmt: skip
    (tmp_path / JOURNAL_NAME).write_text(json.dumps(journal, indent=2, ensure_ascii=False), encoding="utf-8")
    (tmp_path / "meta" / "0000_snapshot.json").write_text("{}")
    for tag in ("0000_lush_wolverine", "0007_odd"):
        (tmp_path / f"{tag}.sql").write_text("SELECT 1;")
    created = new_migration(tmp_path, "next", now=8)
    assert created.tag == "0008_next", "no number is reused"
    entry = {"idx": 8, "version": "6", "when": 8, "tag": "0008_next", "breakpoints": True}
    expected = {**journal, "entries": [*journal["entries"], entry]}
    assert (tmp_path / JOURNAL_NAME).read_text("utf-8") == json.dumps(expected, indent=2, ensure_ascii=False)
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_file_that_the_journal_does_not_name(tmp_path: Path) -> None:
    """Without a hash lock it is left alone, and its name is not used again."""
    new_migration(tmp_path, "a", now=1)
    (tmp_path / "0001_left_over.sql").write_text("SELECT 1;")
    with pytest.raises(BundleFaultyError, match=r"0001_left_over\.sql exists"):
        new_migration(tmp_path, "left over", now=2)
    assert new_migration(tmp_path, "b", now=2).tag == "0001_b"
    assert (tmp_path / "0001_left_over.sql").read_text() == "SELECT 1;"


@pytest.mark.parametrize("behind", [0, 1, 1_000_000_000])
def test_a_reversed_when_is_refused(folder: Path, behind: int) -> None:
    """Nothing is changed if the clock is not past the newest entry, which here is not the last one."""
    before = read_directory(folder)
    with pytest.raises(WhenReversedError) as caught:
        new_migration(folder, "x", now=1776822435828 - behind)
    assert caught.value.to_dict()["code"] == "WHEN_REVERSED"
    assert caught.value.exit_code == 7
    assert caught.value.details["tag"] == "0008_federation"
    assert "clock" in str(caught.value.hint)
    assert read_directory(folder) == before


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "../a", "a.sql", "ü", "a\n", "a\0", "-a", "a-", "_", "a" * 61, "a;b", "a'b", "--"]
)
def test_bad_names(folder: Path, name: str) -> None:
    """A name that is invalid in a file name is refused, and nothing is changed."""
    before = read_directory(folder)
    with pytest.raises(MigrationNameError):
        new_migration(folder, name, now=LATER)
    assert read_directory(folder) == before


@settings(database=None, deadline=None)
@given(st.lists(st.text("abzAZ09", min_size=1, max_size=5), min_size=1, max_size=5), st.sampled_from(" _-"))
def test_slugs(words: list[str], separator: str) -> None:
    """Words with any separator become snake_case, and a slug is its own slug."""
    slug = slug_of(separator.join(words))
    assert slug == "_".join(words).lower() == slug_of(slug)


def _damage_file(folder: Path) -> None:
    (folder / "0003_api_tokens.sql").write_text("SELECT 1;")


def _damage_journal(folder: Path) -> None:
    path = folder / JOURNAL_NAME
    path.write_bytes(path.read_bytes().replace(b"0003_api_tokens", b"0003_api_token"))
    (folder / LOCK_NAME).unlink()


def _stray_file(folder: Path) -> None:
    (folder / LOCK_NAME).unlink()
    (folder / "0010_x.sql").write_text("SELECT 1;")


def _no_journal(folder: Path) -> None:
    (folder / JOURNAL_NAME).unlink()


def _bad_when(folder: Path) -> None:
    path = folder / JOURNAL_NAME
    path.write_bytes(path.read_bytes().replace(b"1745280000000", b'"1745280000000"'))
    files = read_directory(folder)
    (folder / LOCK_NAME).write_bytes(make_lock("gateway", files))


@pytest.mark.parametrize("damage", [_damage_file, _damage_journal, _stray_file, _no_journal, _bad_when])
def test_an_invalid_folder_is_not_changed(folder: Path, damage: Callable[[Path], None]) -> None:
    """Nothing is added if files, journal and lock do not match."""
    damage(folder)
    before = read_directory(folder)
    with pytest.raises(BundleFaultyError) as caught:
        new_migration(folder, "x", now=LATER)
    assert caught.value.details["findings"]
    assert str(caught.value.hint).endswith(f"gate {folder}")
    assert read_directory(folder) == before


def test_a_concurrent_process(folder: Path) -> None:
    """Nothing is changed while another process holds the folder's lock; afterwards the command succeeds."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(FolderBusyError):
        new_migration(folder, "x", now=LATER)
    os.close(descriptor)
    assert new_migration(folder, "x", now=LATER).index == 10


@pytest.mark.parametrize(
    "name", [".0010_x.sql.new", "meta/.hashes.lock.json.new", "meta/._journal.json.new", "0010_x.sql"]
)
def test_nothing_is_changed_if_a_file_cannot_be_written(folder: Path, name: str) -> None:
    """If a directory exists at the path of any file to write, the folder remains unchanged."""
    (folder / name).mkdir()
    before = read_directory(folder)
    with pytest.raises(IsADirectoryError):
        new_migration(folder, "x", now=LATER)
    assert read_directory(folder) == before
    (folder / name).rmdir()
    assert new_migration(folder, "x", now=LATER).index == 10


def test_renamed_files_are_rolled_back(tmp_path: Path) -> None:
    """If the last rename fails, the new files are removed and the old lock is restored."""
    (tmp_path / "lock").write_bytes(b"old")
    (tmp_path / "journal").mkdir()
    changes = {"a.sql": b"new", "new/b": b"new", "lock": b"new", "journal": b"new"}
    with pytest.raises(IsADirectoryError):
        _write_files(tmp_path, {"lock": b"old"}, changes)
    assert read_directory(tmp_path) == {"lock": b"old"}
    assert not (tmp_path / "new").exists()
    (tmp_path / "journal").rmdir()
    _write_files(tmp_path, {"lock": b"old"}, changes)
    assert read_directory(tmp_path) == changes
