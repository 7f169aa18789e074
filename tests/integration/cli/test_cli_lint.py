"""The verbs ``storage lint`` and ``storage new``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.migrations.gate import JOURNAL_NAME

LIMIT = 30  # seconds
CLI = (sys.executable, "-P", "-m", "mosaic_gateway_installer.cli")


def run(*words: object, code: int, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a verb of the group ``storage`` and check its exit code."""
    done = subprocess.run(
        [*CLI, "storage", *map(str, words)], capture_output=True, text=True, timeout=LIMIT, check=False, cwd="/",
        env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode == code, done
    return done


def ask(*words: object, code: int) -> dict[str, Any]:
    """Run a verb with ``--json`` and return the envelope."""
    envelope: dict[str, Any] = json.loads(run(*words, "--json", code=code).stdout)
    assert (envelope["schema"], envelope["command"], envelope["ok"]) == (1, f"storage {words[0]}", code == 0)
    return envelope


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one migration, created by ``storage new``."""
    directory = tmp_path / "my-bundle"
    directory.mkdir()
    run("new", "first", "--dir", directory, code=0)
    return directory


def test_the_packaged_bundles() -> None:
    """Without a folder, the bundles of the package are checked, and they have no findings."""
    result = ask("lint", "--strict", code=0)["result"]
    assert result == {
        "errors": 0, "warnings": 0, "strict": True,
        "bundles": [{"name": name, "profile": "release", "findings": []} for name in ("gateway", "storage")],
    }  # fmt: skip
    assert run("lint", code=0).stdout == "0 errors, 0 warnings\n"


def test_errors(folder: Path) -> None:
    """Errors exit with code 4; each has file, line, rule, reason and replacement, in plain and JSON output."""
    (folder / "0000_first.sql").write_text("SELECT 1;\n--> statement-breakpoint\nDROP TABLE users;\n")
    envelope = ask("lint", folder, "--profile", "release", code=4)
    assert envelope["error"]["code"] == "LINT_FAILED"
    assert envelope["error"]["details"] == {"errors": 1, "warnings": 0, "rules": ["drop-table"]}
    (bundle,) = envelope["result"]["bundles"]
    (finding,) = bundle["findings"]
    assert bundle["name"] == "my-bundle"
    assert list(finding) == ["file", "line", "rule", "severity", "why", "instead"]
    assert (finding["file"], finding["line"], finding["rule"]) == ("0000_first.sql", 3, "drop-table")
    done = run("lint", folder, "--profile", "release", code=4)
    assert done.stdout == (
        f"my-bundle/0000_first.sql:3: error [drop-table] {finding['why']}\n    instead: {finding['instead']}\n"
        "1 errors, 0 warnings\n"
    )
    assert done.stderr.startswith("error [LINT_FAILED]: ")


def test_profiles(folder: Path) -> None:
    """Without a hash lock the profile is safety, which does not ask what other programs use; with a lock, release."""
    (folder / "0000_first.sql").write_text("DROP TABLE users;\n")
    assert ask("lint", folder, code=0)["result"]["bundles"] == [
        {"name": "my-bundle", "profile": "safety", "findings": []}
    ]
    subprocess.run([sys.executable, "-P", "-m", "mosaic_gateway.migrations.gate", folder], check=True, timeout=LIMIT)
    (bundle,) = ask("lint", folder, code=4)["result"]["bundles"]
    assert bundle["profile"] == "release"
    assert "programs of the version before" in bundle["findings"][0]["why"]
    run("lint", folder, "--profile", "safety", code=0)
    run("lint", folder, "--profile", "other", code=2)


def test_warnings(folder: Path) -> None:
    """Warnings are shown and exit with code 0, with --strict with code 4."""
    (folder / "0000_first.sql").write_text("SET search_path = x;\n")
    result = ask("lint", folder, code=0)["result"]
    assert (result["errors"], result["warnings"]) == (0, 1)
    assert ask("lint", folder, "--strict", code=4)["error"]["code"] == "LINT_FAILED"


def test_without_the_parser(folder: Path, tmp_path: Path) -> None:
    """Without pglast the exit code is 3, and the hint has the command that installs it."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['pglast'] = None\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run("lint", folder, "--json", code=3, env={"PYTHONPATH": path})
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "LINT_PARSER_MISSING"
    assert error["hint"] == f"Install it: {sys.executable} -m pip install 'mosaic-gateway[lint]'"


def test_wrong_folders(tmp_path: Path) -> None:
    """A folder that does not exist, or contains no migrations, is a usage error."""
    assert ask("lint", tmp_path, code=2)["error"]["code"] == "USAGE"
    for words in (("lint", tmp_path / "none"), ("new", "x", "--dir", tmp_path / "none"), ("new", "x"), ("new",)):
        run(*words, code=2)


def test_new(folder: Path) -> None:
    """The next migration is created with the current time, and the next command is shown."""
    result = ask("new", "Second one", "--dir", folder, code=0)["result"]
    entry = json.loads((folder / JOURNAL_NAME).read_text())["entries"][1]
    assert result == {
        "tag": "0001_second_one", "file": str(folder / "0001_second_one.sql"), "index": 1, "when": entry["when"],
        "locked": False,
    }  # fmt: skip
    assert abs(entry["when"] / 1000 - (folder / "0001_second_one.sql").stat().st_mtime) < 60
    done = run("new", "third", "--dir", folder, code=0)
    assert done.stdout.startswith(f"Created {folder}/0002_third.sql\n")
    assert f"storage lint {folder}" in done.stdout


def test_new_refuses(folder: Path) -> None:
    """A clock behind the newest entry is exit code 7, an invalid name 2, and the folder is unchanged."""
    path = folder / JOURNAL_NAME
    journal = json.loads(path.read_text())
    journal["entries"][0]["when"] = 99_999_999_999_999
    path.write_text(json.dumps(journal))
    error = ask("new", "x", "--dir", folder, code=7)["error"]
    assert error["code"] == "WHEN_REVERSED"
    assert "clock" in error["hint"]
    assert ask("new", "a/b", "--dir", folder, code=2)["error"]["code"] == "MIGRATION_NAME_INVALID"
    (folder / "0000_first.sql").unlink()
    assert ask("new", "x", "--dir", folder, code=7)["error"]["code"] == "BUNDLE_FAULTY"
    assert json.loads(path.read_text()) == journal
