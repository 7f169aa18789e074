"""The packaged schema snapshot, with which ``doctor`` finds objects that were changed by hand."""

from __future__ import annotations

from mosaic_gateway.gateway.schema import load_bundles, prepare_schema
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.checks.schema_snapshot import read_schema_snapshot, take_schema_snapshot


def test_the_snapshot_matches_the_migrations(database: str) -> None:
    """If this fails after a new migration, write a new snapshot as described in the module `schema_snapshot`."""
    prepare_schema(load_bundles(), database, EngineName.SERVER)
    assert read_schema_snapshot() == take_schema_snapshot(database)
