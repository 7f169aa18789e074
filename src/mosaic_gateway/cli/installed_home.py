"""The installation that a verb works on: its id and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mosaic_gateway.config import Config, load_config
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import instance_id
from mosaic_gateway.process.account import check_owner
from mosaic_gateway.process.environment import process_environment

__all__ = ["Installation", "installation_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """An installation: its id and its settings."""

    instance_id: str
    config: Config


def installation_of(home: Home, **flags: Any) -> Installation:
    """Return the installation in *home*; *flags* override its settings.

    Raises `NotInstalledError`, `ConfigError` and `HomeOwnerError`.
    """
    identity = instance_id(home)
    config = load_config(home, flags=flags, environ=process_environment())
    check_owner(home.path)
    return Installation(instance_id=identity, config=config)
