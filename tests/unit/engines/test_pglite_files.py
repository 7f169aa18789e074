"""PGlite's lock of packages, list of files, and sidecar, as shipped; and where its data is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mosaic_gateway.engines.base import ClusterMissingError, ForeignClusterError
from mosaic_gateway.engines.pglite.data import data_directory, data_of, has_data
from mosaic_gateway.engines.pglite.errors import PackagesAlteredError, PackagesMissingError
from mosaic_gateway.engines.pglite.npm_packages import modules_of, verify
from mosaic_gateway.engines.pglite.pinned_versions import PGLITE, PGVECTOR, Shipped, shipped
from mosaic_gateway.installation.layout import Home


def test_the_versions_agree() -> None:
    """npm's lock pins exactly the versions whose files are known, each with its hash, and names no registry."""
    lock = json.loads(shipped().packages["package-lock.json"])["packages"]
    for package in (PGLITE, PGVECTOR):
        entry = lock[f"node_modules/{package}"]
        assert entry["version"] == shipped().version_of(package)
        assert entry["integrity"].startswith("sha512-")
    assert set(lock) == {"", f"node_modules/{PGLITE}", f"node_modules/{PGVECTOR}"}
    assert b"http" not in shipped().packages["package-lock.json"]


def test_the_sidecar_is_shipped() -> None:
    """Its main script is there, and the digest follows every byte of every script."""
    brought = shipped()
    assert "main.mjs" in brought.scripts
    changed = Shipped(
        pglite=brought.pglite, pgvector=brought.pgvector, packages={}, hashes={},
        scripts={**brought.scripts, "main.mjs": brought.scripts["main.mjs"] + b" "},
    )  # fmt: skip
    assert changed.scripts_digest != brought.scripts_digest


def test_files_are_held_against_the_list(tmp_path: Path) -> None:
    """What is missing and what differs is told apart, each with the file and its package."""
    brought = Shipped(pglite="1", pgvector="2", packages={}, scripts={}, hashes={f"{PGVECTOR}/index.js": "00"})
    with pytest.raises(PackagesMissingError, match=r"index\.js") as missing:
        verify(tmp_path, brought)
    assert missing.value.details["package"] == PGVECTOR
    (tmp_path / PGVECTOR).mkdir(parents=True)
    (tmp_path / PGVECTOR / "index.js").touch()
    with pytest.raises(PackagesAlteredError, match=r"index\.js"):
        verify(tmp_path, brought)


def test_packages_are_found_with_and_without_their_directory(tmp_path: Path) -> None:
    """Both the directory of the installation and its node_modules will do."""
    modules = tmp_path / "node_modules"
    (modules / PGLITE).mkdir(parents=True)
    assert modules_of(tmp_path, shipped()) == modules_of(modules, shipped()) == modules
    with pytest.raises(PackagesMissingError):
        modules_of(tmp_path / "nothing", shipped())


def test_data_is_recognised_and_never_guessed_at(tmp_path: Path) -> None:
    """Nothing there, something else there, another version there: each is told."""
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
