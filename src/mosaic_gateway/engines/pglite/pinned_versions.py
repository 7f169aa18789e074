"""What this package brings for PGlite: npm's lock, the sidecar's scripts, and the hash of every file that is opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from importlib_resources import files

__all__ = ["PGLITE", "PGVECTOR", "Shipped", "shipped"]

PGLITE = "@electric-sql/pglite"
PGVECTOR = "@electric-sql/pglite-pgvector"
SCRIPT = ".mjs"


@dataclass(frozen=True)  # without slots: hashed once
class Shipped:
    """``pglite`` and ``pgvector`` are versions; ``scripts`` the sidecar's files by name.

    ``packages`` are the files that npm works from, ``hashes`` maps the path of each file below
    ``node_modules`` that a running sidecar opens to its SHA-256.
    """

    pglite: str
    pgvector: str
    packages: Mapping[str, bytes]
    scripts: Mapping[str, bytes]
    hashes: Mapping[str, str]

    def version_of(self, package: str) -> str:
        """Return the version of *package*, one of the two."""
        return self.pglite if package == PGLITE else self.pgvector

    @cached_property
    def scripts_digest(self) -> str:
        """A short hash over the sidecar's scripts."""
        digest = hashlib.sha256()
        for name, content in sorted(self.scripts.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:12]

    @cached_property
    def packages_digest(self) -> str:
        """A short hash over the files that are opened."""
        return hashlib.sha256(json.dumps(sorted(self.hashes.items())).encode()).hexdigest()[:12]


@cache
def shipped() -> Shipped:
    """Return it, read once: after root's privileges were dropped, the package may not be readable any more."""
    here = files("mosaic_gateway.engines.pglite")
    pinned = json.loads((here / "files.json").read_bytes())
    sidecar = here / "sidecar"
    return Shipped(
        pglite=pinned["pglite"],
        pgvector=pinned["pglite-pgvector"],
        packages={name: (sidecar / name).read_bytes() for name in ("package.json", "package-lock.json")},
        scripts={entry.name: entry.read_bytes() for entry in sidecar.iterdir() if entry.name.endswith(SCRIPT)},
        hashes=pinned["files"],
    )
