"""What a verb gives back, and its two forms: plain lines for people, one JSON object for scripts."""

from __future__ import annotations

import errno
import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.errors import ExitCode, InternalError, InterruptionError, MosaicError, RefusedError
from mosaic_gateway.fs.files import NotARegularFileError, TooLargeError
from mosaic_gateway.fs.record_fields import RecordError

__all__ = ["SCHEMA", "Outcome", "render_error", "render_outcome", "run_verb"]

#: Version of the envelope; raised when a field changes its meaning.
SCHEMA = 1


class NotPermittedError(RefusedError):
    """The system does not let this user do what the verb has to do."""

    code = "NOT_PERMITTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A verb's result: ``result`` for scripts, ``lines`` for people, ``error`` where it is not a success.

    An outcome with an error (a doctor that found faults) still shows its result.
    """

    result: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    error: MosaicError | None = None


def run_verb(
    command: str,
    function: Callable[[], Outcome | int],
    *,
    as_json: bool,
    advise: Callable[[str], str] | None = None,
) -> int:
    """Call *function*, show what it gives or raises, and return the exit code. Hints are shown as *advise* has them.

    Where it gives an exit code, another process has shown the rest.
    """
    try:
        outcome = function()
    except MosaicError as error:
        if advise is not None:
            error.hint = advise(error.hint)
        render_error(command, error, as_json=as_json)
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        stopped = InterruptionError("interrupted", hint="Run the command again to go on.")
        render_error(command, stopped, as_json=as_json)
        return stopped.exit_code
    except BrokenPipeError:
        raise  # whoever read our output has gone: click ends quietly
    except OSError as error:
        failed = _of_system(error)
        render_error(command, failed, as_json=as_json)
        return failed.exit_code
    except click.ClickException:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: a script gets its envelope from a fault of ours, too
        traceback.print_exc()
        fault = InternalError(
            f"{type(error).__name__}: {error}", hint="This is a fault of mosaic-gateway; please report it."
        )
        render_error(command, fault, as_json=as_json)
        return fault.exit_code
    if isinstance(outcome, int):
        return outcome
    if advise is not None:
        outcome = _advised(outcome, advise)
    render_outcome(command, outcome, as_json=as_json)
    return ExitCode.DONE if outcome.error is None else outcome.error.exit_code


def _of_system(error: OSError) -> MosaicError:
    """Return what an error of the system means, wherever it showed: a full disk, a planted or a closed file."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        from mosaic_gateway.engines.base import DiskFullError

        return DiskFullError(
            f"there is no room for {error.filename or 'a file'}", hint="Make room there, then run the command again."
        )
    named = f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")
    if isinstance(error, NotARegularFileError | TooLargeError):
        return RecordError(Path(str(error.filename)), "", error.strerror or "it is no regular file")
    if isinstance(error, PermissionError):
        return NotPermittedError(
            named, hint=f"Let user id {os.geteuid()}, as whom this runs, read, write and enter it."
        )
    return InternalError(named)


def _advised(outcome: Outcome, advise: Callable[[str], str]) -> Outcome:
    if outcome.error is not None:
        outcome.error.hint = advise(outcome.error.hint)
    return replace(outcome, lines=tuple(advise(line) for line in outcome.lines))


def render_outcome(command: str, outcome: Outcome, *, as_json: bool) -> None:
    """Write an outcome to standard output."""
    if as_json:
        error = None if outcome.error is None else outcome.error.to_dict()
        _write_envelope(command, outcome.result, error)
        return
    for line in outcome.lines:
        click.echo(line)
    if outcome.error is not None:
        _write_plain(outcome.error)


def render_error(command: str, error: MosaicError, *, as_json: bool) -> None:
    """Write an error: as JSON to standard output, for people to standard error."""
    if as_json:
        _write_envelope(command, {}, error.to_dict())
    else:
        _write_plain(error)


def _write_envelope(command: str, result: dict[str, Any], error: dict[str, Any] | None) -> None:
    envelope = {"schema": SCHEMA, "command": command, "ok": error is None, "result": result, "error": error}
    click.echo(json.dumps(envelope, default=str))


def _write_plain(error: MosaicError) -> None:
    click.echo(f"{click.style('error', fg='red', bold=True)} [{error.code}]: {error.message}", err=True)
    if error.hint:
        click.echo(f"{click.style('hint', fg='cyan')}: {error.hint}", err=True)
