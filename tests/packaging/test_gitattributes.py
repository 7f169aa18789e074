from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import mosaic_gateway
from mosaic_gateway.migrations.gate import check_bundles, read_directory

SQL = "src/mosaic_gateway/sql"


@pytest.fixture
def checked_out(clean_copy: Callable[[Path], Path], tmp_path: Path) -> Callable[[], dict[str, bytes]]:
    """Check out the copy in ``tmp_path`` with git as configured on Windows (LF in the index, CRLF in the tree)."""
    clean_copy(tmp_path)

    def run() -> dict[str, bytes]:
        for arguments in (["init", "-q"], ["config", "core.autocrlf", "true"], ["add", "-A"]):
            subprocess.run(["git", *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=60)
        shutil.rmtree(tmp_path / SQL)
        subprocess.run(["git", "checkout", "-q", "--", "."], cwd=tmp_path, check=True, timeout=60)
        return read_directory(tmp_path / SQL)

    return run


def test_git_keeps_the_bytes_of_migrations(checked_out: Callable[[], dict[str, bytes]]) -> None:
    """With .gitattributes, core.autocrlf changes no migration, journal or hash lock."""
    files = checked_out()

    assert files == read_directory(Path(mosaic_gateway.__file__).parent / "sql")
    assert check_bundles(files) == ()


def test_without_attributes_git_would_alter_them(checked_out: Callable[[], dict[str, bytes]], tmp_path: Path) -> None:
    """Without .gitattributes the same checkout does not match the hash lock."""
    (tmp_path / ".gitattributes").unlink()

    assert any("differs from the hash lock" in fault for fault in check_bundles(checked_out()))
