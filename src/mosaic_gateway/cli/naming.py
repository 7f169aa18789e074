"""Advice that names commands, made fit for a home that is not the default one: it can be pasted as it is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

__all__ = ["name_home"]

#: Options by which a text has named its place already.
PLACES = ("--home", "--from", "--database-url")
COMMAND = re.compile(r"mosaic-gateway((?: [a-z][a-z-]*)+)")


def name_home(text: str, home: Path, root: click.Command, context: click.Context) -> str:
    """Return *text* with ``--home`` and *home* after each command of *root* in it that takes them.

    A text that has named its place already stays as it is.
    """
    if any(place in text for place in PLACES):
        return text

    def named(match: re.Match[str]) -> str:
        words = match[1].split()
        count = _verb_length(words, root, context)
        if count == 0:
            return match[0]
        return " ".join(["mosaic-gateway", *words[:count], "--home", shlex.quote(str(home)), *words[count:]])

    return COMMAND.sub(named, text)


def _verb_length(words: list[str], root: click.Command, context: click.Context) -> int:
    """Return how many of *words* are the path of a command that takes ``--home``, 0 for none."""
    command, count = root, 0
    for word in words:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(context, word)
        if found is None:
            return 0
        command, count = found, count + 1
    takes = not isinstance(command, click.Group) and any(option.name == "home" for option in command.params)
    return count if takes else 0
