"""A snapshot of the schema with every migration applied, included in the package.

``schema.txt`` contains the digest of the migrations, then the lines of `migrations.schema_fingerprint`. A test checks
that it matches the migrations. To write it, migrate an empty database and run
``python -m mosaic_gateway_installer.checks.schema_snapshot CONNINFO``.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import cache

from importlib_resources import files

from mosaic_gateway.engines import connect
from mosaic_gateway.gateway import load_bundles, schema_digest
from mosaic_gateway.migrations import schema_lines

__all__ = ["SchemaSnapshot", "read_schema_snapshot", "take_schema_snapshot"]

NAME = "schema.txt"


@dataclass(frozen=True, slots=True)
class SchemaSnapshot:
    """The lines of a schema, and the digest of the migrations that create it."""

    digest: str
    lines: tuple[str, ...]

    def to_text(self) -> str:
        """Return the content of the file: the digest, then one JSON string per line."""
        return "".join(f"{line}\n" for line in (self.digest, *map(json.dumps, self.lines)))


@cache
def read_schema_snapshot() -> SchemaSnapshot | None:
    """Return the packaged snapshot, None if there is none."""
    try:
        digest, *lines = (files(__package__) / NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return SchemaSnapshot(digest, tuple(json.loads(line) for line in lines))


def take_schema_snapshot(conninfo: str) -> SchemaSnapshot:
    """Return a snapshot of the migrated database at *conninfo*."""
    with connect(conninfo, application_name="mosaic-gateway snapshot") as connection:
        return SchemaSnapshot(schema_digest(load_bundles()), schema_lines(connection))


if __name__ == "__main__":
    sys.stdout.write(take_schema_snapshot(sys.argv[1]).to_text())
