"""The subject of the checks of ``doctor``."""

from __future__ import annotations

from dataclasses import dataclass

from mosaic_gateway.config import Config
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import Receipt

__all__ = ["Installation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """An installation: its settings and its receipt."""

    config: Config
    receipt: Receipt

    @property
    def home(self) -> Home:
        """The installation's directory."""
        return self.config.home
