"""Hints are rendered for the person who reads them, and cross processes as data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.hint import HIDDEN, Caller, Hint, Text, command, from_json, to_json

HOME = Path("/srv/a home")
AT = "--home '/srv/a home'"
RESOLVE = command("storage resolve", "0003", "--applied") + "; " + command("storage status")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Start it: " + command("start"), f"Start it: mosaic-gateway start {AT}"),
        ("Run " + command("start") + " again.", f"Run mosaic-gateway start {AT} again."),
        (command("doctor", "--fix") + ", or not", f"mosaic-gateway doctor {AT} --fix, or not"),
        ("See " + command("auth users list") + ".", f"See mosaic-gateway auth users list {AT}."),
        (RESOLVE, f"mosaic-gateway storage resolve {AT} 0003 --applied; mosaic-gateway storage status {AT}"),
        (command("uninstall", "--purge", home=Path("/x")), "mosaic-gateway uninstall --home /x --purge"),
        (command("backup verify", "a b;c"), f"mosaic-gateway backup verify {AT} 'a b;c'"),
        ("pip install --upgrade mosaic-gateway, then", "pip install --upgrade mosaic-gateway, then"),
        ("", ""),
    ],
)
def test_commands_name_the_home_of_the_caller(text: Text, shown: str) -> None:
    """``--home`` follows the verb of each command, and arguments are quoted for a shell; other text is unchanged."""
    assert Caller(home=HOME).text(text) == shown


def test_commands_without_a_home() -> None:
    """Without ``--home`` the commands have none; so has the plain text of a hint."""
    assert Caller().text("Start it: " + command("start")) == "Start it: mosaic-gateway start"
    assert str("Start it: " + command("start")) == "Start it: mosaic-gateway start"


def test_commands_name_the_program_of_the_caller() -> None:
    """The command is the one that this caller types."""
    assert Caller(program="/opt/x/mosaic-gateway").text(command("start")) == "/opt/x/mosaic-gateway start"


def test_the_target_replaces_the_home_where_it_is_an_option() -> None:
    """Verbs on a database name the caller's database, other verbs the home; a hidden value is not quoted."""
    caller = Caller(home=HOME, target=("--from", "/a folder", "--database-url", HIDDEN))
    assert caller.text(RESOLVE) == (
        "mosaic-gateway storage resolve --from '/a folder' --database-url … 0003 --applied; "
        "mosaic-gateway storage status --from '/a folder' --database-url …"
    )
    assert caller.text(command("stop")) == f"mosaic-gateway stop {AT}"


@pytest.mark.parametrize("text", ["plain", RESOLVE, "Go on: " + command("uninstall", home=HOME)])
def test_hints_cross_processes_as_data(text: Text) -> None:
    """The JSON form has everything that the other process needs to render it."""
    assert from_json(json.loads(json.dumps(to_json(text)))) == text


NO_HOME = {"home": None}


@pytest.mark.parametrize(
    "value",
    [
        1, None, [1], {"verb": "start", "arguments": [], **NO_HOME}, [{"verb": "start", **NO_HOME}],
        [{"verb": 1, "arguments": [], **NO_HOME}], [{"verb": "start", "arguments": [1], **NO_HOME}],
        [{"verb": "start", "arguments": "x", **NO_HOME}], [{"verb": "start", "arguments": [], "home": 1}],
    ],
)  # fmt: skip
def test_other_json_is_not_a_hint(value: Any) -> None:
    """What is not the JSON form of a text is a ValueError."""
    with pytest.raises(ValueError, match=r"is not a (text|command)"):
        from_json(value)


def test_a_later_version_may_add_members_to_a_command() -> None:
    """Unknown members of a command are ignored."""
    assert from_json([{"verb": "start", "arguments": [], "home": None, "as_root": True}]) == command("start")


def test_an_error_crosses_processes_with_text_and_data() -> None:
    """An error has its hint as text, which every version reads, and as data; a plain hint only as text."""
    message = RefusedError("no", hint="Run " + command("start") + ".").to_message()
    assert message["hint"] == "Run mosaic-gateway start."
    assert from_json(message["hint_parts"]) == Hint(("Run ", *command("start").parts, "."))
    assert "hint_parts" not in RefusedError("no", hint="Wait.").to_message()
