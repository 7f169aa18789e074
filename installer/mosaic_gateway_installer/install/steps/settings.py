"""The settings file and the secret that signs cookies."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mosaic_gateway.config import Config, ConfigError, read_config_file
from mosaic_gateway.fs.files import make_directory, read_regular, remove_file, write_file
from mosaic_gateway.fs.record_fields import read_content
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway_installer.step import Context

__all__ = ["ConfigStep", "SecretStep", "has_secret", "wanted_settings"]

SECRET_BYTES = 32
HEADER = "# Settings of mosaic-gateway. Flags and MOSAIC_GATEWAY_* variables win over them."


def wanted_settings(config: Config) -> dict[str, Any]:
    """Return the settings that the file shall hold: address and engine, and what else was chosen."""
    values: dict[str, Any] = {"host": config.host, "port": config.port, "engine": str(config.engine)}
    if config.engine is EngineName.SERVER and config.database_url is not None:
        # With another engine a DATABASE_URL in the environment belongs to another program.
        values["database_url"] = config.database_url.reveal()
    if config.postgres_bin is not None:
        values["postgres_bin"] = str(config.postgres_bin)
    if config.pglite_dir is not None:
        values["pglite_dir"] = str(config.pglite_dir)
    if config.base_url is not None:
        values["base_url"] = config.base_url
    return values


@dataclass(slots=True)
class ConfigStep:
    """Writes ``config.toml``; a person's comments and order in it stay."""

    context: Context
    id: str = "config"
    _before: str | None = None
    _begun: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Write {self.context.home.config_file}"

    def done(self) -> bool:
        """Return whether the file says what is wanted."""
        stored = read_config_file(self.context.home.config_file)
        return all(stored.get(name) == value for name, value in wanted_settings(self.context.config).items())

    def apply(self) -> None:
        """Write the file."""
        import tomlkit

        path = self.context.home.config_file
        try:
            with suppress(FileNotFoundError):
                self._before = read_regular(path).decode()
            document = tomlkit.parse(self._before if self._before is not None else f"{HEADER}\n")
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {error}", hint="Correct the file.") from error
        self._begun = True
        document.update(wanted_settings(self.context.config))
        write_file(path, tomlkit.dumps(document))

    def undo(self) -> None:
        """Restore what was there before."""
        if not self._begun:
            return
        path = self.context.home.config_file
        if self._before is None:
            remove_file(path)
        else:
            write_file(path, self._before)


@dataclass(slots=True)
class SecretStep:
    """Makes the key that signs session cookies, once in the life of a home."""

    context: Context
    id: str = "secret"
    _begun: bool = False

    @property
    def description(self) -> str:
        """What the step does."""
        return "Create the authentication secret"

    def done(self) -> bool:
        """Return whether the secret is there."""
        return has_secret(self.context.home)

    def apply(self) -> None:
        """Write the secret: ``BETTER_AUTH_SECRET`` if it is set, else random."""
        given = self.context.config.auth_secret
        value = given.reveal() if given is not None else secrets.token_urlsafe(SECRET_BYTES)
        self._begun = True
        make_directory(self.context.home.secrets)
        write_file(self.context.home.auth_secret, value + "\n")

    def undo(self) -> None:
        """Remove it: nothing was signed with it yet."""
        if self._begun:
            remove_file(self.context.home.auth_secret)


def has_secret(home: Home) -> bool:
    """Return whether *home* has its secret; an empty file, as a crash leaves one, is none. Raises RecordError."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return bool(read_content(home.auth_secret))
    return False
