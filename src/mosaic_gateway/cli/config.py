"""The verb ``config show``."""

from __future__ import annotations

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.config import VARIABLES, Secret, load_config
from mosaic_gateway.forward_rules import ForwardSettings
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.process.environment import process_environment

__all__ = ["config", "show"]


@click.group()
def config() -> None:
    """Show the effective settings."""


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


def _displayed(name: str, value: object) -> list[tuple[str, str]]:
    """Return the names and texts of a setting: of ``forward`` one of each rule, in their order."""
    if isinstance(value, ForwardSettings):
        rules = ((f"forward.rules {number}", str(rule)) for number, rule in enumerate(value.rules, 1))
        return [("forward.user", value.user), *rules]
    if isinstance(value, tuple):
        return [(name, ", ".join(value))]
    return [(name, "****" if isinstance(value, Secret) else "" if value is None else str(value))]
