"""Root's process takes a file to create, and what it asks, from the command line that root typed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import click
import pytest
from tests.support.scratch import make_scratch

from mosaic_gateway.cli.input import NamedFileError
from mosaic_gateway.process.account import UNPRIVILEGED
from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.root.authority import Authority, NotGrantedError
from mosaic_gateway_installer.root.command_line_requests import CommandLineRequests
from mosaic_gateway_installer.root.grants import Call


def answer(request: Request, verb: str, **options: Any) -> Any:
    """Return the answer to *request* of the verb that root typed."""
    authority = Authority(record=None, path=Path("/none"), account=UNPRIVILEGED, call=Call(verb, options))
    return CommandLineRequests(authority).answers[request]({}, ())


@pytest.mark.parametrize(("verb", "option"), [("doctor", "bundle"), ("auth tokens create", "output")])
def test_a_new_file(scratch_root: Path, verb: str, option: str) -> None:
    """The file that root named is created with mode 0600, and never an existing one; no other verb gets a file."""
    path = make_scratch(scratch_root, f"output-{option}") / "file"
    _, (descriptor,) = answer(Request.OPEN_OUTPUT, verb, **{option: path})
    os.close(descriptor)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(NamedFileError):
        answer(Request.OPEN_OUTPUT, verb, **{option: path})
    with pytest.raises(NotGrantedError):
        answer(Request.OPEN_OUTPUT, "status", **{option: path})


def test_the_removal_of_a_user_is_asked_with_roots_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question names the address that root typed."""
    asked: list[str] = []

    def confirm(text: str, **_options: Any) -> bool:
        asked.append(text)
        return len(asked) == 1

    monkeypatch.setattr(click, "confirm", confirm)
    answers = [answer(Request.PROMPT, "auth users remove", email="bob@example.com") for _ in range(2)]
    assert [values["text"] for values, _ in answers] == ["yes", "no"]
    assert asked == ["Remove bob@example.com with everything that belongs to this user?"] * 2
