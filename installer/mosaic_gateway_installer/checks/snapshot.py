"""How the schema looks when every migration is applied, as it was when this package was made.

``schema.txt`` holds the digest of the migrations and then the lines of `migrations.fingerprint`; a test holds
it equal to what the migrations make. Written by ``python -m mosaic_gateway_installer.checks.snapshot CONNINFO``
from a database that has just been migrated.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from importlib_resources import files

from mosaic_gateway.engines.session import connect
from mosaic_gateway.gateway.schema import load_bundles, schema_digest
from mosaic_gateway.migrations.fingerprint import schema_lines

__all__ = ["Snapshot", "read_snapshot", "take_snapshot"]

NAME = "schema.txt"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The lines of a schema, and the digest of the migrations that make it."""

    digest: str
    lines: tuple[str, ...]

    def to_text(self) -> str:
        """Return the file's form: the digest, then one JSON string a line."""
        return "".join(f"{line}\n" for line in (self.digest, *map(json.dumps, self.lines)))


def read_snapshot() -> Snapshot | None:
    """Return the packaged snapshot, None where there is none."""
    try:
        digest, *lines = (files(__package__) / NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return Snapshot(digest, tuple(json.loads(line) for line in lines))


def take_snapshot(conninfo: str) -> Snapshot:
    """Return the snapshot of the migrated database at *conninfo*."""
    with connect(conninfo, application_name="mosaic-gateway snapshot") as connection:
        return Snapshot(schema_digest(load_bundles()), schema_lines(connection))


if __name__ == "__main__":
    sys.stdout.write(take_snapshot(sys.argv[1]).to_text())
