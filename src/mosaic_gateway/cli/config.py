"""The verbs ``config show``, ``config set`` and ``config unset``."""

from __future__ import annotations

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.config import (
    LISTS,
    SETTINGS,
    VARIABLES,
    ConfigError,
    Secret,
    load_config,
    parsed,
    read_config_file,
)
from mosaic_gateway.forward_rules import ForwardSettings
from mosaic_gateway.fs.files import write_file
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation.home_lock import home_locked
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import installed
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.settings_file import write_settings

__all__ = ["config", "set_", "show", "unset"]

#: Settings that ``install`` changes, since the data, the service or root's record depend on them.
OF_INSTALL = ("engine", "postgres_bin", "pglite_dir")
ADDRESS = ("host", "port")
TABLES = ("forward",)  # written with an editor
CHANGEABLE = click.Choice([name for name in SETTINGS if name not in (*OF_INSTALL, *TABLES)])


@click.group()
def config() -> None:
    """Show and change the settings."""


@config.command()
@verb("config show")
def show(home: Home) -> Outcome:
    """Show each setting and the source of its value; secrets are masked."""
    settings = load_config(home, flags={}, environ=process_environment())
    values = {"home": {"value": str(home.path), "source": "flag, MOSAIC_GATEWAY_HOME or default"}}
    for name in VARIABLES:
        source = settings.sources.get(name, "default")
        values |= {key: {"value": text, "source": source} for key, text in _entries(name, getattr(settings, name))}
    if settings.auth_secret is None and home.auth_secret.exists():
        values["auth_secret"] = {"value": "****", "source": str(home.auth_secret)}
    width = max(map(len, values))
    lines = tuple(f"{name:<{width}}  {entry['value'] or '-':<32} {entry['source']}" for name, entry in values.items())
    return Outcome(result={"settings": values}, lines=lines)


@config.command("set", short_help="Change a setting in config.toml.")
@click.argument("name", type=CHANGEABLE)
@click.argument("values", nargs=-1, required=True, metavar="VALUE...")
@verb("config set")
def set_(home: Home, *, name: str, values: tuple[str, ...]) -> Outcome:
    """Write a setting into config.toml, whose comments stay. Several values make a list (trusted_origins and the like).

    A running gateway uses it after a restart.
    """
    if name not in LISTS and len(values) > 1:
        raise ConfigError(f"{name} takes one value", hint="Quote a value that contains blanks.")
    value = parsed(name, values if name in LISTS else values[0], "the command line")
    stored = list(value) if isinstance(value, tuple) else value
    return _changed(home, name, stored, f"{name} = {_displayed(value)}")


@config.command(short_help="Remove a setting from config.toml.")
@click.argument("name", type=CHANGEABLE)
@verb("config unset")
def unset(home: Home, *, name: str) -> Outcome:
    """Remove a setting from config.toml, so that its default applies after a restart."""
    return _changed(home, name, None, f"{name} is not set")


def _changed(home: Home, name: str, value: object, summary: str) -> Outcome:
    if name in ADDRESS and home.programs is not None:
        new = str(value) if value is not None else "VALUE"
        install = command("install", "--port", new) if name == "port" else command("install", "--host", new)
        raise ConfigError(f"{name} is also in root's record of this installation", hint="Run: " + install)
    installed(home)
    with home_locked(home, "config set"):
        before = read_config_file(home.config_file).get(name)
        content = write_settings(home.config_file, {name: value})
        try:
            settings = load_config(home, flags={}, environ=process_environment())
        except ConfigError:  # it contradicts another setting
            write_file(home.config_file, content or "")
            raise
    changed = before != value
    lines: list[Text] = [f"{home.config_file}: {summary}."]
    lines += ["A running gateway uses it after: " + command("restart")] if changed else []
    source = settings.sources.get(name)
    warnings = (f"{source} overrides it.",) if source in VARIABLES[name] else ()
    return Outcome(result={"name": name, "value": value, "changed": changed}, lines=tuple(lines), warnings=warnings)


def _displayed(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ", ".join(value)
    return "****" if isinstance(value, Secret) else str(value)


def _entries(name: str, value: object) -> list[tuple[str, str]]:
    """Return the names and texts of a setting: of ``forward`` one of each rule, in their order."""
    if not isinstance(value, ForwardSettings):
        return [(name, _displayed(value))]
    rules = ((f"forward.rules {number}", str(rule)) for number, rule in enumerate(value.rules, 1))
    return [("forward.user", value.user), *rules]
