"""Tests of PGlite's shipped data (package lock, file hashes, scripts) and of its data directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mosaic_gateway.engines.base import ClusterMissingError, ForeignClusterError
from mosaic_gateway.engines.pglite.data_files import data_directory, data_of, has_data
from mosaic_gateway.engines.pglite.node import PackagesAlteredError, PackagesMissingError
from mosaic_gateway.engines.pglite.npm_packages import PGLITE, PGVECTOR, Shipped, modules_of, shipped, verify
from mosaic_gateway.installation.layout import Home


def test_package_lock_matches_pinned_versions() -> None:
    """npm's lock file pins exactly the pinned versions, each with its hash, and names no registry."""
    lock = json.loads(shipped().packages["package-lock.json"])["packages"]
    for package in (PGLITE, PGVECTOR):
        entry = lock[f"node_modules/{package}"]
        assert entry["version"] == shipped().version_of(package)
        assert entry["integrity"].startswith("sha512-")
    assert set(lock) == {"", f"node_modules/{PGLITE}", f"node_modules/{PGVECTOR}"}
    assert b"http" not in shipped().packages["package-lock.json"]


def test_scripts_are_shipped() -> None:
    """The main script is shipped, and the digest depends on the content of the scripts."""
    original = shipped()
    assert "main.mjs" in original.scripts
    changed = Shipped(
        pglite=original.pglite, pgvector=original.pgvector, packages={}, hashes={},
        scripts={**original.scripts, "main.mjs": original.scripts["main.mjs"] + b" "},
    )  # fmt: skip
    assert changed.scripts_digest != original.scripts_digest


def test_files_are_verified_against_the_hashes(tmp_path: Path) -> None:
    """Missing and altered files have separate errors that name the file and its package."""
    pinned = Shipped(pglite="1", pgvector="2", packages={}, scripts={}, hashes={f"{PGVECTOR}/index.js": "00"})
    with pytest.raises(PackagesMissingError, match=r"index\.js") as missing:
        verify(tmp_path, pinned)
    assert missing.value.details["package"] == PGVECTOR
    (tmp_path / PGVECTOR).mkdir(parents=True)
    (tmp_path / PGVECTOR / "index.js").touch()
    with pytest.raises(PackagesAlteredError, match=r"index\.js"):
        verify(tmp_path, pinned)


def test_packages_are_found_with_and_without_their_directory(tmp_path: Path) -> None:
    """npm's directory and its node_modules are both accepted."""
    modules = tmp_path / "node_modules"
    (modules / PGLITE).mkdir(parents=True)
    assert modules_of(tmp_path, shipped()) == modules_of(modules, shipped()) == modules
    with pytest.raises(PackagesMissingError):
        modules_of(tmp_path / "nothing", shipped())


def test_data_directory_is_checked(tmp_path: Path) -> None:
    """A missing directory, a foreign one and one of another version each raise their own error."""
    home = Home(tmp_path)
    with pytest.raises(ClusterMissingError):
        data_of(home)
    assert not has_data(home)
    directory = data_directory(home)
    directory.mkdir(parents=True)
    with pytest.raises(ForeignClusterError, match="not a data directory"):
        data_of(home)
    (directory / "global").mkdir()
    (directory / "global" / "pg_control").touch()
    (directory / "PG_VERSION").write_text("18\n")
    assert data_of(home) == directory
    (directory / "PG_VERSION").write_text("17\n")
    with pytest.raises(ForeignClusterError, match=r"0\.3 or 0\.4"):
        data_of(home)
