"""PGlite data shipped in this package: npm's lock file, the sidecar's scripts, and pinned file hashes."""

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


@dataclass(frozen=True)  # without slots, for cached_property
class Shipped:
    """Pinned versions, files and hashes.

    ``pglite`` and ``pgvector`` are versions; ``packages`` are npm's input files and ``scripts`` the sidecar's files,
    both by name. ``hashes`` maps each file below ``node_modules`` that a sidecar opens to its SHA-256.
    """

    pglite: str
    pgvector: str
    packages: Mapping[str, bytes]
    scripts: Mapping[str, bytes]
    hashes: Mapping[str, str]

    def version_of(self, package: str) -> str:
        """Return the version of *package*, `PGLITE` or `PGVECTOR`."""
        return self.pglite if package == PGLITE else self.pgvector

    @cached_property
    def scripts_digest(self) -> str:
        """A short digest of the sidecar's scripts."""
        digest = hashlib.sha256()
        for name, content in sorted(self.scripts.items()):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:12]

    @cached_property
    def packages_digest(self) -> str:
        """A short digest of the pinned file hashes."""
        return hashlib.sha256(json.dumps(sorted(self.hashes.items())).encode()).hexdigest()[:12]


@cache
def shipped() -> Shipped:
    """Return the shipped data, read once: after root drops its privileges, the package may be unreadable."""
    package = files("mosaic_gateway.engines.pglite")
    pinned = json.loads((package / "files.json").read_bytes())
    sidecar = package / "sidecar"
    return Shipped(
        pglite=pinned["pglite"],
        pgvector=pinned["pglite-pgvector"],
        packages={name: (sidecar / name).read_bytes() for name in ("package.json", "package-lock.json")},
        scripts={entry.name: entry.read_bytes() for entry in sidecar.iterdir() if entry.name.endswith(SCRIPT)},
        hashes=pinned["files"],
    )
