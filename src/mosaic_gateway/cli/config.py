"""The verbs ``config show``, ``config set`` and ``config unset``."""

from __future__ import annotations

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.installed_home import installation_of
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.config import LISTS, SETTINGS, VARIABLES, ConfigError, Secret, load_config, parsed
from mosaic_gateway.forward_rules import ForwardSettings
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation.home_lock import home_locked
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.settings_file import write_settings

__all__ = ["config", "set_", "show", "unset"]

#: Settings that ``install`` changes, since the data, the service or root's record depend on them.
OF_INSTALL = ("engine", "postgres_bin", "pglite_dir")
ADDRESS = ("host", "port")
CHANGEABLE = click.Choice([name for name in SETTINGS if name not in OF_INSTALL])


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
        values |= {key: {"value": text, "source": source} for key, text in _displayed(name, getattr(settings, name))}
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
    return _changed(home, name, stored, f"{name} = {_displayed(name, value)[0][1]}")


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
    installation_of(home)
    with home_locked(home, "config set"):
        before = load_config(home, flags={}, environ={})
        write_settings(home.config_file, {name: value})
        settings = load_config(home, flags={}, environ=process_environment())
    changed = getattr(before, name) != getattr(load_config(home, flags={}, environ={}), name)
    lines: list[Text] = [f"{home.config_file}: {summary}."]
    lines += ["A running gateway uses it after: " + command("restart")] if changed else []
    source = settings.sources.get(name)
    warnings = (f"{source} overrides it.",) if source in VARIABLES[name] else ()
    return Outcome(result={"name": name, "value": value, "changed": changed}, lines=tuple(lines), warnings=warnings)


def _displayed(name: str, value: object) -> list[tuple[str, str]]:
    """Return the names and texts of a setting: of ``forward`` one of each rule, in their order."""
    if isinstance(value, ForwardSettings):
        rules = ((f"forward.rules {number}", str(rule)) for number, rule in enumerate(value.rules, 1))
        return [("forward.user", value.user), *rules]
    if isinstance(value, tuple):
        return [(name, ", ".join(value))]
    return [(name, "****" if isinstance(value, Secret) else "" if value is None else str(value))]
