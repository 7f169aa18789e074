"""Advice that names commands, made fit for a home that is not the default one: it can be pasted as it is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from pathlib import Path

__all__ = ["name_home"]

#: Options by which a text has named its place already.
PLACES = ("--home", "--from", "--database-url")
#: How many words come after those verbs that are groups. Known here, because whoever has an error imports no command.
GROUPS = {"auth": 2, "backup": 1, "bootstrap": 1, "config": 1, "storage": 1}
#: Verbs that take no home.
HOMELESS = {"completion"}
COMMAND = re.compile(r"mosaic-gateway((?: [a-z][a-z-]*)+)")


def name_home(text: str, home: Path, verbs: Collection[str]) -> str:
    """Return *text* with ``--home`` and *home* after each command in it that takes them. Pure.

    *verbs* are the root command's. A text that has named its place already stays as it is.
    """
    if any(place in text for place in PLACES):
        return text

    def named(match: re.Match[str]) -> str:
        words = match[1].split()
        count = 1 + GROUPS.get(words[0], 0)
        if words[0] not in verbs or words[0] in HOMELESS or count > len(words):
            return match[0]
        return " ".join(["mosaic-gateway", *words[:count], "--home", shlex.quote(str(home)), *words[count:]])

    return COMMAND.sub(named, text)
