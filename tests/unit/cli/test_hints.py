"""Hints name the home, so that their commands can be pasted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mosaic_gateway.cli.hints import name_home
from mosaic_gateway.cli.root import make_root
from mosaic_gateway_installer.cli import VERBS

HOME = Path("/srv/a home")
AT = "--home '/srv/a home'"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("Start it: mosaic-gateway start", f"Start it: mosaic-gateway start {AT}"),
        ("Run mosaic-gateway start again.", f"Run mosaic-gateway start {AT} again."),
        ("mosaic-gateway doctor --fix, or not", f"mosaic-gateway doctor {AT} --fix, or not"),
        ("See mosaic-gateway auth users list.", f"See mosaic-gateway auth users list {AT}."),
        (
            "mosaic-gateway storage resolve 0003 --applied; mosaic-gateway storage status",
            f"mosaic-gateway storage resolve {AT} 0003 --applied; mosaic-gateway storage status {AT}",
        ),
        ("Go on: mosaic-gateway uninstall --home /x --purge", "Go on: mosaic-gateway uninstall --home /x --purge"),
        ("pip install --upgrade mosaic-gateway, then", "pip install --upgrade mosaic-gateway, then"),
        ("Install mosaic-gateway with a current Python", "Install mosaic-gateway with a current Python"),
        ("mosaic-gateway storage", "mosaic-gateway storage"),
        ("", ""),
    ],
)
def test_home_is_added_to_commands(text: str, named: str) -> None:
    """``--home`` is added after the verb of each command that has this option; other text is unchanged."""
    assert name_home(text, HOME, VERBS) == named


def test_commands_with_and_without_home() -> None:
    """The lists of groups and of verbs without ``--home`` match the commands."""
    root = make_root(VERBS)
    context = click.Context(root)

    def paths(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                subcommand = command.get_command(context, name)
                assert subcommand is not None
                yield from paths(subcommand, (*words, name))
        else:
            yield words, any(option.name == "home" for option in command.params)

    for words, takes_home in paths(root, ()):
        text = " ".join(["mosaic-gateway", *words])
        assert name_home(text, HOME, VERBS) == (f"{text} {AT}" if takes_home else text)
