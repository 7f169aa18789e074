"""Advice that names the home: what it says can be pasted."""

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
        ("Install mosaic-gateway with a Python of today", "Install mosaic-gateway with a Python of today"),
        ("mosaic-gateway storage", "mosaic-gateway storage"),
        ("", ""),
    ],
)
def test_commands_in_advice_name_the_home(text: str, named: str) -> None:
    """Each command that takes a home gets it, right after its verb; other text stays as it is."""
    assert name_home(text, HOME, VERBS) == named


def test_every_command_is_known_to_take_a_home_or_not() -> None:
    """The groups, their depth, and the verbs without a home are those of the commands themselves."""
    root = make_root(VERBS)
    context = click.Context(root)

    def paths(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from paths(found, (*words, name))
        else:
            yield words, any(option.name == "home" for option in command.params)

    for words, takes_home in paths(root, ()):
        text = " ".join(["mosaic-gateway", *words])
        assert name_home(text, HOME, VERBS) == (f"{text} {AT}" if takes_home else text)
