"""The packaged picture of the schema, by which doctor finds what was changed by hand."""

from __future__ import annotations

from mosaic_gateway.gateway.schema import load_bundles, prepare_schema
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway_installer.checks.schema_snapshot import read_schema_snapshot, take_schema_snapshot


def test_it_is_what_the_migrations_make(database: str) -> None:
    """Where this fails after a new migration: python -m mosaic_gateway_installer.checks.schema_snapshot, see there."""
    prepare_schema(load_bundles(), database, EngineName.SERVER)
    assert read_schema_snapshot() == take_schema_snapshot(database)
