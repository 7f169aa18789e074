"""The JSON envelope on standard output, and the exit code of each category of errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from mosaic_gateway import errors
from mosaic_gateway.cli.envelope import Outcome, run_verb
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.fs.files import NotARegularFileError
from mosaic_gateway.hint import Caller, command


def failing(error: BaseException) -> Callable[[], Outcome]:
    """Return a verb that raises *error*."""

    def verb() -> Outcome:
        raise error

    return verb


def test_success(capsys: pytest.CaptureFixture[str]) -> None:
    """A result is printed as one JSON object or as plain lines."""
    outcome = Outcome(result={"a": "ü"}, lines=("one", "two"))
    assert run_verb("some verb", lambda: outcome, as_json=True) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {
        "schema": 1, "command": "some verb", "ok": True, "result": {"a": "ü"}, "warnings": [], "error": None,
    }  # fmt: skip
    assert (shown.out.count("\n"), shown.err) == (1, "")
    assert run_verb("some verb", lambda: outcome, as_json=False) == 0
    assert capsys.readouterr() == ("one\ntwo\n", "")


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.MosaicError, 1), (errors.InternalError, 1), (errors.UsageError, 2), (errors.PreflightError, 3),
        (errors.MigrationError, 4), (errors.SmokeTestError, 5), (errors.BusyError, 6), (errors.RefusedError, 7),
    ],
)  # fmt: skip
def test_exit_codes(capsys: pytest.CaptureFixture[str], kind: type[MosaicError], code: int) -> None:
    """Each category of errors has its exit code, and the envelope carries code, message, hint and details."""
    error = kind("what happened", hint="what to do", details={"n": 1})
    assert run_verb("v", failing(error), as_json=True) == code
    envelope = json.loads(capsys.readouterr().out)
    assert envelope == {
        "schema": 1, "command": "v", "ok": False, "result": {}, "warnings": [],
        "error": {"code": kind.code, "message": "what happened", "hint": "what to do", "details": {"n": 1}},
    }  # fmt: skip
    assert run_verb("v", failing(error), as_json=False) == code
    assert capsys.readouterr() == ("", f"error [{kind.code}]: what happened\nhint: what to do\n")


def test_result_with_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An outcome with an error still shows its result."""
    outcome = Outcome(result={"a": 1}, lines=("found",), error=errors.RefusedError("no"))
    assert run_verb("v", lambda: outcome, as_json=True) == 7
    envelope = json.loads(capsys.readouterr().out)
    assert (envelope["ok"], envelope["result"], envelope["error"]["code"]) == (False, {"a": 1}, "REFUSED")
    assert run_verb("v", lambda: outcome, as_json=False) == 7
    assert capsys.readouterr() == ("found\n", "error [REFUSED]: no\n")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (IsADirectoryError(21, "Is a directory", "/a/b"), 1, "Is a directory: /a/b"),
        (OSError("odd"), 1, "odd"),
        (ZeroDivisionError("oh"), 1, "ZeroDivisionError: oh"),
    ],
)
def test_unexpected_errors(capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str) -> None:
    """Other exceptions have an envelope with code INTERNAL; a bug also prints its traceback to standard error."""
    assert run_verb("v", failing(error), as_json=True) == code
    shown = capsys.readouterr()
    envelope = json.loads(shown.out)
    assert (envelope["ok"], envelope["error"]["code"], envelope["error"]["message"]) == (False, "INTERNAL", text)
    assert ("Traceback" in shown.err) == isinstance(error, ZeroDivisionError)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_interruption(capsys: pytest.CaptureFixture[str], error: BaseException) -> None:
    """Ctrl-C and click.Abort have the code INTERRUPTED and print no traceback."""
    assert run_verb("v", failing(error), as_json=True) == 130
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "INTERRUPTED"
    assert shown.err == ""


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), "NOT_PERMITTED", "Permission denied: /a/b"),
        (NotARegularFileError(0, "it is a FIFO", "/a/b"), "RECORD_INVALID", "/a/b is invalid: it is a FIFO"),
        (OSError(28, "No space left on device", "/a/b"), "DISK_FULL", "no space left on the device for /a/b"),
    ],
)
def test_operating_system_errors(capsys: pytest.CaptureFixture[str], error: OSError, code: str, text: str) -> None:
    """Permission denied, an unexpected file type and a full disk have codes of their own."""
    assert run_verb("v", failing(error), as_json=True) != 1
    reported = json.loads(capsys.readouterr().out)["error"]
    assert (reported["code"], reported["message"]) == (code, text)


def test_broken_pipe() -> None:
    """BrokenPipeError is raised, so that click ends the process without a message."""
    with pytest.raises(BrokenPipeError):
        run_verb("v", failing(BrokenPipeError()), as_json=False)


@pytest.mark.parametrize("as_json", [False, True])
def test_hints_are_rendered_for_the_caller(capsys: pytest.CaptureFixture[str], *, as_json: bool) -> None:
    """Commands in lines, results, messages, hints and details name the caller's home, as text and as JSON."""
    start = "Start it: " + command("start")
    fault = MosaicError("1 failed: " + start, hint=start, details={"faults": [{"hint": start}]})
    outcome = Outcome(result={"findings": [{"hint": start}]}, lines=(start,), error=fault)
    run_verb("v", lambda: outcome, as_json=as_json, caller=Caller(home=Path("/srv/gw")))
    run_verb("v", failing(fault), as_json=as_json, caller=Caller(home=Path("/srv/gw")))
    shown = "".join(capsys.readouterr())
    assert (
        shown.count("Start it: mosaic-gateway start --home /srv/gw") == shown.count("Start it") == (7 if as_json else 5)
    )
