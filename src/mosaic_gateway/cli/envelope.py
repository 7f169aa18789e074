"""The result of a verb and its two output formats: plain lines, or one JSON object (``--json``)."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.errors import ExitCode, InternalError, InterruptionError, MosaicError
from mosaic_gateway.fs.files import NotARegularFileError, TooLargeError
from mosaic_gateway.fs.permissions import is_denied, not_permitted
from mosaic_gateway.fs.record_fields import RecordError
from mosaic_gateway.hint import Caller, Hint, Text
from mosaic_gateway.process.disk_full import FREE_SPACE, DiskFullError, is_full_disk

__all__ = ["SCHEMA", "Outcome", "render_error", "render_outcome", "run_verb", "translate_os_error"]

#: Version of the JSON envelope; incremented when a field changes its meaning.
SCHEMA = 1
DEFAULT_CALLER = Caller()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A verb's result: ``result`` for JSON output, ``lines`` for plain output, ``error`` if the verb failed.

    ``warnings`` are printed to standard error, and are in the JSON output. Hints in all four are rendered when they
    are printed.
    An outcome with an error (``doctor`` that found faults) still shows its result.
    """

    result: dict[str, Any] = field(default_factory=dict)
    lines: tuple[Text, ...] = ()
    warnings: tuple[Text, ...] = ()
    error: MosaicError | None = None


def run_verb(
    command: str,
    function: Callable[[], Outcome | int],
    *,
    as_json: bool,
    caller: Caller = DEFAULT_CALLER,
) -> int:
    """Call *function*, print its outcome or its error with the hints for *caller*, and return the exit code.

    If *function* returns an exit code, another process has printed the output already.
    """
    try:
        outcome = function()
    except MosaicError as error:
        render_error(command, error, as_json=as_json, caller=caller)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        stopped = InterruptionError("interrupted", hint="Run the command again to continue.")
        render_error(command, stopped, as_json=as_json, caller=caller)
        return stopped.exit_code
    except BrokenPipeError:
        raise  # the reader of standard output has exited: click ends the process without a message
    except OSError as error:
        translated = translate_os_error(error)
        render_error(command, translated, as_json=as_json, caller=caller)
        return translated.exit_code
    except click.ClickException:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: a script gets its envelope even for a bug
        traceback.print_exc()
        fault = InternalError(
            f"{type(error).__name__}: {error}", hint="This is a bug in mosaic-gateway; please report it."
        )
        render_error(command, fault, as_json=as_json, caller=caller)
        return fault.exit_code
    if isinstance(outcome, int):
        return outcome
    render_outcome(command, outcome, as_json=as_json, caller=caller)
    return ExitCode.DONE if outcome.error is None else outcome.error.exit_code


def translate_os_error(error: OSError) -> MosaicError:
    """Return the MosaicError for an OSError: full disk, not a regular file, file too large, permission denied."""
    if is_full_disk(error):
        return DiskFullError(f"no space left on the device for {error.filename or 'a file'}", hint=FREE_SPACE)
    named = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    if isinstance(error, NotARegularFileError | TooLargeError):
        return RecordError(Path(str(error.filename)), "", error.strerror or "it is not a regular file")
    return not_permitted(error) if is_denied(error) else InternalError(named)


def render_outcome(command: str, outcome: Outcome, *, as_json: bool, caller: Caller = DEFAULT_CALLER) -> None:
    """Print an outcome to standard output, with the hints for *caller*."""
    if as_json:
        error = None if outcome.error is None else outcome.error.to_dict()
        _write_envelope(command, outcome.result, error, caller, outcome.warnings)
        return
    for line in outcome.lines:
        click.echo(caller.text(line))
    for warning in outcome.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {caller.text(warning)}", err=True)
    if outcome.error is not None:
        _write_plain(outcome.error, caller)


def render_error(command: str, error: MosaicError, *, as_json: bool, caller: Caller = DEFAULT_CALLER) -> None:
    """Print an error: as JSON to standard output, as text to standard error, with the hints for *caller*."""
    if as_json:
        _write_envelope(command, {}, error.to_dict(), caller)
    else:
        _write_plain(error, caller)


def _write_envelope(
    command: str,
    result: dict[str, Any],
    error: dict[str, Any] | None,
    caller: Caller,
    warnings: tuple[Text, ...] = (),
) -> None:
    def encoded(value: object) -> str:
        return caller.text(value) if isinstance(value, Hint) else str(value)

    envelope = {
        "schema": SCHEMA,
        "command": command,
        "ok": error is None,
        "result": result,
        "warnings": list(warnings),
        "error": error,
    }
    click.echo(json.dumps(envelope, default=encoded))


def _write_plain(error: MosaicError, caller: Caller) -> None:
    message, advice = caller.text(error.full_message), caller.text(error.hint)
    click.echo(f"{click.style('error', fg='red', bold=True)} [{error.code}]: {message}", err=True)
    if advice:
        click.echo(f"{click.style('hint', fg='cyan')}: {advice}", err=True)
