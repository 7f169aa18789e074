"""Changes of the file ``config.toml``, whose comments and order stay."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomlkit

from mosaic_gateway.config import ConfigError
from mosaic_gateway.fs.files import read_regular, write_file

__all__ = ["write_settings"]

HEADER = "# Settings of mosaic-gateway. Flags and MOSAIC_GATEWAY_* variables override them."


def write_settings(path: Path, changes: Mapping[str, Any]) -> str | None:
    """Write *changes* (None: remove the setting) into the file *path*; its comments and order stay.

    Return the file's content before, None if it did not exist. Raises `ConfigError`, OSError.
    """
    before = None
    try:
        with suppress(FileNotFoundError):
            before = read_regular(path).decode()
        document = tomlkit.parse(before if before is not None else f"{HEADER}\n")
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", hint="Correct the file.") from error
    for name, value in changes.items():
        if value is None:
            document.pop(name, None)
        else:
            document[name] = value
    write_file(path, tomlkit.dumps(document))
    return before
