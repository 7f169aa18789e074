"""Adds ``--home`` to the commands that hints name, so that a user can paste them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from pathlib import Path

__all__ = ["name_home"]

#: Options that name the home or the database; a text with one of them is left as it is.
LOCATION_OPTIONS = ("--home", "--from", "--database-url")
#: Verbs that are groups -> number of words of their subcommands. Listed here because an error imports no commands.
GROUPS = {"auth": 2, "backup": 1, "bootstrap": 1, "config": 1, "storage": 1}
#: Verbs without the option ``--home``.
WITHOUT_HOME = {"completion"}
COMMAND = re.compile(r"mosaic-gateway((?: [a-z][a-z-]*)+)")


def name_home(text: str, home: Path, verbs: Collection[str]) -> str:
    """Return *text* with ``--home`` and *home* added to each command in it that has this option. Pure.

    *verbs* are the root command's. A text that contains one of `LOCATION_OPTIONS` is returned unchanged.
    """
    if any(option in text for option in LOCATION_OPTIONS):
        return text

    def with_home(match: re.Match[str]) -> str:
        words = match[1].split()
        count = 1 + GROUPS.get(words[0], 0)
        if words[0] not in verbs or words[0] in WITHOUT_HOME or count > len(words):
            return match[0]
        return " ".join(["mosaic-gateway", *words[:count], "--home", shlex.quote(str(home)), *words[count:]])

    return COMMAND.sub(with_home, text)
