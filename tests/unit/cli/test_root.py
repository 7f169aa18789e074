"""The root command: lazy imports and usage errors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
import pytest

from mosaic_gateway import __version__
from mosaic_gateway.cli.root import RUNTIME_VERBS, LazyGroup, make_root, run
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import Receipt, ReceiptState, write_receipt


def test_lazy_group_imports_what_is_called() -> None:
    """A command is imported when it is called, not when its short help is shown."""
    sys.modules.pop("this", None)
    group = LazyGroup("g", commands_at={"one": ("this", "c", "The first."), "two": ("no.such", "x", "The second.")})
    with click.Context(group) as context:
        text = group.get_help(context)
        assert group.list_commands(context) == ["one", "two"]
        assert group.get_command(context, "three") is None
        assert "The first." in text
        assert "The second." in text
        assert "this" not in sys.modules
        with pytest.raises(ModuleNotFoundError):
            group.get_command(context, "two")


def test_lazy_group_refuses_other_objects() -> None:
    """An attribute that is not a click command is a TypeError."""
    group = LazyGroup("g", commands_at={"one": ("json", "dumps", "")})
    with click.Context(group) as context, pytest.raises(TypeError):
        group.get_command(context, "one")


def test_verbs_match_their_commands() -> None:
    """Each verb can be imported, and its short help equals the one in the list."""
    root = make_root(RUNTIME_VERBS)
    with click.Context(root) as context:
        for name, (_, _, text) in RUNTIME_VERBS.items():
            command = root.get_command(context, name)
            assert command is not None
            assert command.short_help is None or command.short_help == text


@pytest.mark.parametrize(
    ("words", "command", "message"),
    [
        (["nonsense"], "", "No such command 'nonsense'"),
        (["--nonsense"], "", "No such option"),
        (["status", "--nonsense"], "status", "No such option"),
        (["status", "extra"], "status", "unexpected extra argument"),
        (["serve", "--port", "0"], "serve", "0 is not in the range"),
        (["serve", "--port", "x"], "serve", "'x' is not a valid integer"),
        (["logs", "-n", "-1"], "logs", "-1 is not in the range"),
        (["storage", "nonsense"], "storage", "No such command"),
        (["storage", "migrate", "--lock-timeout", "x"], "storage migrate", "not a valid float"),
        (["auth", "users", "create", "--name", "x"], "auth users create", "Missing option '--email'"),
        (["auth", "users", "create", "--password", "secret"], "auth users create", "No such option"),
        (["bootstrap", "setup", "--role", "admin"], "bootstrap setup", "No such option"),
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str], command: str, message: str) -> None:
    """A usage error is exit code 2, as text on standard error or as an envelope that names the verb."""
    assert run(RUNTIME_VERBS, words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert run(RUNTIME_VERBS, [*words, "--json"]) == 2
    shown = capsys.readouterr()
    envelope = json.loads(shown.out)
    assert (envelope["schema"], envelope["command"], envelope["ok"], envelope["result"]) == (1, command, False, {})
    assert envelope["error"]["code"] == "USAGE"
    assert message in envelope["error"]["message"]
    assert "--help" in envelope["error"]["hint"]


def test_home_of_an_unknown_user(capsys: pytest.CaptureFixture[str]) -> None:
    """``--home ~user`` with an unknown user is a usage error."""
    assert run(RUNTIME_VERBS, ["status", "--home", "~no-such-user-here/x", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "USAGE"


def test_hint_names_a_relative_home_absolutely(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hint names a home that was given as a relative path by its absolute path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gw").mkdir()
    receipt = Receipt(
        instance_id="0123456789abcdef", state=ReceiptState.INSTALLED, version=__version__, engine="postgres",
        created_at="2026-11-25T13:45:00+00:00", home_created=True,
    )  # fmt: skip
    write_receipt(Home(tmp_path / "gw"), receipt)
    assert run(RUNTIME_VERBS, ["status", "--home", "gw", "--json"]) == 3
    assert f"mosaic-gateway start --home {tmp_path}/gw" in json.loads(capsys.readouterr().out)["error"]["hint"]
