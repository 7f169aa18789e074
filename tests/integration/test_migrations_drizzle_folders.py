"""Folders as public repositories have them: each runs, comes out as `expected.json` says, and is then up to date."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.support.drizzle_folders import FOLDERS, Folder, each_folder, user_tables
from tests.support.engine_marks import on_both_engines

from mosaic_gateway.migrations.bundle import Bundle
from mosaic_gateway.migrations.failure import ChunkRefusedError
from mosaic_gateway.migrations.runner import migrate, read_plan

LIMIT = 30  # seconds
CLI = (sys.executable, "-P", "-m", "mosaic_gateway_installer.cli", "storage")
BY_NAME = {folder.name: folder for folder in FOLDERS}
LINTED = [folder for folder in FOLDERS if any(key.startswith("lint") for key in folder.expected)]


@on_both_engines
@each_folder
def test_folder_is_applied(database: str, folder: Folder) -> None:
    """Tables, rows and indexes are those of its author's intent; a second run has nothing to do."""
    bundle = Bundle.from_directory(folder.path)
    with psycopg.connect(database, autocommit=True) as connection:
        report = migrate(bundle, connection, alone=True)
        assert len(report.applied) == len(folder.sources)
        folder.check(connection)
        assert read_plan(connection, bundle).up_to_date
        assert migrate(bundle, connection).applied == ()
        folder.check(connection)


def ask(*words: object, code: int = 0) -> dict[str, Any]:
    """Run a verb of the group ``storage`` with ``--json`` and return the envelope."""
    done = subprocess.run(
        [*CLI, *map(str, words), "--json"], capture_output=True, text=True, timeout=LIMIT, check=False, cwd="/",
        env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == code, done
    envelope: dict[str, Any] = json.loads(done.stdout)
    return envelope


@pytest.mark.parametrize("folder", LINTED, ids=lambda folder: folder.name)
def test_lint_reports_only_what_goes_wrong(folder: Folder) -> None:
    """A folder that runs well has no errors; a value that an older runner could not use is a warning."""
    result = ask("lint", folder.path)["result"]
    assert result["errors"] == 0
    if "lint_warnings" in folder.expected:
        assert result["warnings"] == folder.expected["lint_warnings"]
    if "lint_warns" in folder.expected:
        findings = [finding for bundle in result["bundles"] for finding in bundle["findings"]]
        assert any("55P04" in finding["why"] for finding in findings), findings


def test_a_file_that_the_journal_does_not_name_is_a_warning(database: str) -> None:
    """The warning names the file, before and after the folder is applied."""
    folder = BY_NAME["01-orphan-file"]
    (name,) = folder.expected["warns"]
    for verb in ("plan", "status", "migrate", "plan", "status", "migrate"):
        (bundle,) = ask(verb, "--from", folder.path, "--database-url", database)["result"]["bundles"]
        assert name in " ".join(bundle["warnings"]), verb
    (bundle,) = ask("lint", folder.path)["result"]["bundles"]
    assert [(finding["file"], finding["severity"]) for finding in bundle["findings"]] == [(name, "warning")]


def test_a_refusal_names_the_line_of_the_statement(database: str, tmp_path: Path) -> None:
    """ROLLBACK on line 5 of a chunk that begins on line 1: the message names line 5, and nothing ran."""
    folder = BY_NAME["05-begin-on-line-5"]
    copy = shutil.copytree(folder.path, tmp_path / "copy")
    (copy / "0000_a.sql").write_bytes(folder.sources[0].content.replace(b"BEGIN", b"ROLLBACK"))
    with psycopg.connect(database, autocommit=True) as connection:
        with pytest.raises(ChunkRefusedError) as refused:
            migrate(Bundle.from_directory(copy), connection)
        assert f"line {folder.expected['line_in_messages']}" in refused.value.message
        assert user_tables(connection) == []
