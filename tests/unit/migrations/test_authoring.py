"""The next migration of a folder: right, whole, or not at all."""

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
    _put,
    new_migration,
    slug_of,
)
from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.gate import JOURNAL_NAME, LOCK_NAME, check_bundle, make_lock, read_directory
from mosaic_gateway.migrations.lint.engine import lint_bundle_files, packaged_files

LATER = 1_900_000_000_000
#: What ``JSON.stringify(journal, null, 2)`` of drizzle-kit gives for one entry.
DRIZZLES = """\
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
    """File, journal entry and lock are made; the bundle is whole, and all that was there is as it was."""
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


def test_lint_waits_for_its_statements(folder: Path) -> None:
    """A new file is one finding, that it is empty; with a statement there is none."""
    file = new_migration(folder, "x", now=LATER).file
    assert [str(finding.rule) for finding in lint_bundle_files(read_directory(folder))] == ["empty-migration"]
    file.write_text(f"{file.read_text()}ALTER TABLE users ADD COLUMN nick text;\n")
    assert lint_bundle_files(read_directory(folder)) == ()


def test_an_empty_folder_becomes_a_bundle(tmp_path: Path) -> None:
    """The first migration is 0000, with a journal as drizzle-kit writes it, and without a lock."""
    created = new_migration(tmp_path, "a", now=LATER)
    assert (created.tag, created.locked) == ("0000_a", False)
    assert sorted(read_directory(tmp_path)) == ["0000_a.sql", JOURNAL_NAME]
    assert (tmp_path / JOURNAL_NAME).read_text() == DRIZZLES
    assert new_migration(tmp_path, "b", now=LATER + 1).tag == "0001_b"
    assert len(Bundle.from_directory(tmp_path).migrations) == 2


def test_a_drizzle_folder(tmp_path: Path) -> None:
    """Snapshots, other versions and unknown fields stay; without a lock none is made."""
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
    assert created.tag == "0008_next", "no number is used twice"
    entry = {"idx": 8, "version": "6", "when": 8, "tag": "0008_next", "breakpoints": True}
    expected = {**journal, "entries": [*journal["entries"], entry]}
    assert (tmp_path / JOURNAL_NAME).read_text("utf-8") == json.dumps(expected, indent=2, ensure_ascii=False)
    assert not (tmp_path / LOCK_NAME).exists()


@pytest.mark.parametrize("behind", [0, 1, 1_000_000_000])
def test_a_reversed_when_is_refused(folder: Path, behind: int) -> None:
    """A clock that is not past the newest entry, which here is not the last, changes nothing."""
    before = read_directory(folder)
    with pytest.raises(WhenReversedError) as caught:
        new_migration(folder, "x", now=1776822435828 - behind)
    assert caught.value.to_dict()["code"] == "WHEN_REVERSED"
    assert caught.value.exit_code == 7
    assert caught.value.details["tag"] == "0008_federation"
    assert "clock" in caught.value.hint
    assert read_directory(folder) == before


@pytest.mark.parametrize(
    "name", ["", " ", "a/b", "../a", "a.sql", "ü", "a\n", "a\0", "-a", "a-", "_", "a" * 61, "a;b", "a'b", "--"]
)
def test_bad_names(folder: Path, name: str) -> None:
    """A name that could not stand in a file name is refused, and nothing is changed."""
    before = read_directory(folder)
    with pytest.raises(MigrationNameError):
        new_migration(folder, name, now=LATER)
    assert read_directory(folder) == before


@settings(database=None, deadline=None)
@given(st.lists(st.text("abzAZ09", min_size=1, max_size=5), min_size=1, max_size=5), st.sampled_from(" _-"))
def test_slugs(words: list[str], between: str) -> None:
    """Words, whatever stands between them, become one snake that names itself."""
    slug = slug_of(between.join(words))
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
def test_a_folder_that_is_not_whole_is_not_touched(folder: Path, damage: Callable[[Path], None]) -> None:
    """Where files, journal and lock do not fit, nothing is added."""
    damage(folder)
    before = read_directory(folder)
    with pytest.raises(BundleFaultyError) as caught:
        new_migration(folder, "x", now=LATER)
    assert caught.value.details["findings"]
    assert read_directory(folder) == before


def test_another_one_at_work(folder: Path) -> None:
    """While somebody else makes a migration in the folder, nothing is changed; then it goes on."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(FolderBusyError):
        new_migration(folder, "x", now=LATER)
    os.close(descriptor)
    assert new_migration(folder, "x", now=LATER).index == 10


@pytest.mark.parametrize(
    "name", [".0010_x.sql.new", "meta/.hashes.lock.json.new", "meta/._journal.json.new", "0010_x.sql"]
)
def test_nothing_where_a_file_cannot_be_written(folder: Path, name: str) -> None:
    """Whichever of the files a folder stands in the way of, all is as it was before."""
    (folder / name).mkdir()
    before = read_directory(folder)
    with pytest.raises(IsADirectoryError):
        new_migration(folder, "x", now=LATER)
    assert read_directory(folder) == before
    (folder / name).rmdir()
    assert new_migration(folder, "x", now=LATER).index == 10


def test_what_took_its_name_is_taken_back(tmp_path: Path) -> None:
    """If the last of the files cannot take its name, the new one is gone again and the lock is the old one."""
    (tmp_path / "lock").write_bytes(b"old")
    (tmp_path / "journal").mkdir()
    changes = {"a.sql": b"new", "made/b": b"new", "lock": b"new", "journal": b"new"}
    with pytest.raises(IsADirectoryError):
        _put(tmp_path, {"lock": b"old"}, changes)
    assert read_directory(tmp_path) == {"lock": b"old"}
    assert not (tmp_path / "made").exists()
    (tmp_path / "journal").rmdir()
    _put(tmp_path, {"lock": b"old"}, changes)
    assert read_directory(tmp_path) == changes
