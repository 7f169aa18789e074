"""The steps that write the settings file and the secret that signs cookies."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

from mosaic_gateway import fs
from mosaic_gateway.config import Config, read_config_file
from mosaic_gateway.fs.record_fields import read_content
from mosaic_gateway.installation import EngineName, Home
from mosaic_gateway.settings_file import write_settings
from mosaic_gateway_installer.step import Step, StepId, Target

__all__ = ["ConfigStep", "SecretStep", "has_secret", "wanted_settings"]

SECRET_BYTES = 32


def wanted_settings(config: Config) -> dict[str, Any]:
    """Return the settings to store in the file: address, engine, and other settings that are not the default."""
    values: dict[str, Any] = {"host": config.host, "port": config.port, "engine": str(config.engine)}
    if config.engine is EngineName.SERVER and config.database_url is not None:
        # With another engine, a DATABASE_URL in the environment is meant for another program.
        values["database_url"] = config.database_url.reveal()
    if config.postgres_bin is not None:
        values["postgres_bin"] = str(config.postgres_bin)
    if config.pglite_dir is not None:
        values["pglite_dir"] = str(config.pglite_dir)
    if config.base_url is not None:
        values["base_url"] = config.base_url
    return values


@dataclass(slots=True)
class ConfigStep(Step):
    """Writes ``config.toml``; comments and order of an existing file stay."""

    target: Target
    id: ClassVar[StepId] = StepId.CONFIG
    _before: str | None = None
    _started: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Write {self.target.home.config_file}"

    def done(self) -> bool:
        """Return whether the file contains the wanted settings."""
        stored = read_config_file(self.target.home.config_file)
        return all(stored.get(name) == value for name, value in wanted_settings(self.target.config).items())

    def apply(self) -> None:
        """Write the file."""
        self._before = write_settings(self.target.home.config_file, wanted_settings(self.target.config))
        self._started = True

    def undo(self) -> None:
        """Restore the previous file."""
        if not self._started:
            return
        path = self.target.home.config_file
        if self._before is None:
            fs.remove_file(path)
        else:
            fs.write_file(path, self._before)


@dataclass(slots=True)
class SecretStep(Step):
    """Creates the key that signs session cookies, once for each home."""

    target: Target
    id: ClassVar[StepId] = StepId.SECRET
    description = "Create the authentication secret"
    _started: bool = False

    def done(self) -> bool:
        """Return whether the secret exists."""
        return has_secret(self.target.home)

    def apply(self) -> None:
        """Write the secret: ``BETTER_AUTH_SECRET`` if it is set, else random."""
        given = self.target.config.auth_secret
        value = given.reveal() if given is not None else secrets.token_urlsafe(SECRET_BYTES)
        self._started = True
        fs.make_directory(self.target.home.secrets)
        fs.write_file(self.target.home.auth_secret, value + "\n")

    def undo(self) -> None:
        """Remove the secret; nothing was signed with it yet."""
        if self._started:
            fs.remove_file(self.target.home.auth_secret)


def has_secret(home: Home) -> bool:
    """Return whether *home* has a secret; an empty file, as left by a crash, does not count. Raises RecordError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return bool(read_content(home.auth_secret))
    return False
