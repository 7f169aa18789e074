"""An installation in a home: its settings and its receipt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mosaic_gateway.config import Config, load_config
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import Receipt, installed
from mosaic_gateway.process.account import check_owner
from mosaic_gateway.process.environment import process_environment

__all__ = ["Installation", "installation_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """An installation: its settings and its receipt."""

    config: Config
    receipt: Receipt

    @property
    def home(self) -> Home:
        """The home directory."""
        return self.config.home

    @property
    def instance_id(self) -> str:
        """The id of the installation."""
        return self.receipt.instance_id


def installation_of(home: Home, **flags: Any) -> Installation:
    """Return the installation in *home*; *flags* override its settings.

    Raises `NotInstalledError`, RecordError, `ConfigError` and `HomeOwnerError`.
    """
    receipt = installed(home)
    config = load_config(home, flags=flags, environ=process_environment())
    check_owner(home.path)
    return Installation(config=config, receipt=receipt)
