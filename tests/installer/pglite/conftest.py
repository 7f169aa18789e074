"""The installer's tests on PGlite: ``make_site`` creates sites whose installs use packages that are already fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.site import MakeSite, Site

from mosaic_gateway.engines.pglite.pinned_versions import shipped
from mosaic_gateway.engines.pglite.runtime import packages_directory
from mosaic_gateway.installation.layout import Home


@pytest.fixture(scope="module")
def make_site(make_site: MakeSite, pglite_home: Home, pglite_cache: Path) -> MakeSite:
    """Return a function that creates sites on PGlite."""
    environ = {
        "MOSAIC_GATEWAY_ENGINE": "pglite",
        "MOSAIC_GATEWAY_PGLITE_DIR": str(packages_directory(pglite_home, shipped())),
        "MOSAIC_GATEWAY_CACHE": str(pglite_cache),
    }

    def make(name: str = "home", **options: Any) -> Site:
        site = make_site(name, **options)
        site.environ = {**site.environ, **environ}
        return site

    return make
