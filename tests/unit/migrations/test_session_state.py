"""Which custom settings a file may set: what a later run restores."""

from __future__ import annotations

import pytest

from mosaic_gateway.migrations.parse import split
from mosaic_gateway.migrations.session_state import custom_names


@pytest.mark.parametrize(
    "text",
    [
        "SET app.x = '1'",
        "set session app.x to 1",
        'SET "app"."x" = \'1\'',
        "SET \"app.x\" = '1'",
        "SET/**/App.X = 1",
        "SET SESSION /* a */ app.x = '1'",
        "SELECT set_config('app.x', '1', false)",
        "SELECT pg_catalog.set_config(E'app.x', '1', false)",
        "SELECT \"set_config\"('app.x', '1', false)",
        "DO $$ BEGIN PERFORM set_config('app.x', '1', false); END $$",
        "DO $$ BEGIN EXECUTE 'SET app.x = 1'; END $$",
    ],
)
def test_a_custom_setting_is_found_in_every_spelling(text: str) -> None:
    """PostgreSQL does not list such settings, so their names come from the text."""
    assert custom_names(split(text)) == ("app.x",)


def test_only_settings_of_the_session_are_restored() -> None:
    """SET LOCAL ends with its transaction, and a comment sets nothing."""
    assert custom_names(split("SET LOCAL app.x = 1; SELECT app.y FROM app /* no set_config(app.z) */")) == ()
