"""The environment of this process, and the directories that it names; no other module reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cache_directory", "config_directory", "process_environment", "runtime_directory"]

SYSTEM_CACHE = Path("/var/cache/mosaic-gateway")


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process; other modules take it as a parameter."""
    return os.environ


def cache_directory(environ: Mapping[str, str]) -> Path:
    """Return the cache that all homes of a user share: ``MOSAIC_GATEWAY_CACHE``, or the default."""
    named = environ.get("MOSAIC_GATEWAY_CACHE")
    if named:
        return Path(named).expanduser().absolute()
    if os.geteuid() == 0:
        return SYSTEM_CACHE
    from platformdirs import user_cache_path  # noqa: PLC0415 - start-up time

    return user_cache_path("mosaic-gateway", appauthor=False)


def runtime_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory for sockets and other runtime files: ``XDG_RUNTIME_DIR``, else ``/tmp``."""
    named = environ.get("XDG_RUNTIME_DIR", "")
    return Path(named) if named.startswith("/") else Path("/tmp")  # noqa: S108 - the callers check what they create there


def config_directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of user settings: ``XDG_CONFIG_HOME``, else ``~/.config``."""
    named = environ.get("XDG_CONFIG_HOME", "")
    return Path(named) if named.startswith("/") else Path.home() / ".config"
