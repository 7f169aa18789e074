"""The verbs ``start``, ``stop``, ``restart``, ``status`` and ``logs``."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.errors import UsageError
from mosaic_gateway.fs.files import open_regular
from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.gateway.control.gateway_process import NotReadyError
from mosaic_gateway.gateway.control.program import (
    ProgramMissingError,
    check_interpreter,
    current_program,
    is_data_retained,
)
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import NotInstalledError, instance_id
from mosaic_gateway.process.logfile import read_tail, tail_of

__all__ = ["logs", "restart", "start", "status", "stop"]

FOLLOW_PAUSE = 0.3  # seconds
CHUNK = 1 << 20  # bytes
NO_SERVICE = "none; after a reboot, start the gateway with " + command("start")
ADOPT = "Adopt the data: " + command("install")


@click.command(short_help="Start the gateway in the background.")
@verb("start")
def start(home: Home) -> Outcome:
    """Start the gateway in the background and wait until it accepts requests."""
    _refuse_retained(home)
    return _started(gateway_process.start(home))


@click.command(short_help="Stop the gateway and its database.")
@verb("stop")
def stop(home: Home) -> Outcome:
    """Stop the gateway and its database, and wait until both have exited."""
    instance_id(home)
    pid = gateway_process.stop(home)
    line = "The gateway is not running." if pid is None else f"Stopped (process {pid})."
    return Outcome(result={"stopped": pid is not None, "pid": pid}, lines=(line,))


@click.command(short_help="Stop the gateway, then start it.")
@verb("restart")
def restart(home: Home) -> Outcome:
    """Stop the gateway if it is running, then start it."""
    instance_id(home)
    _refuse_retained(home)
    missing = _missing_program(home)
    if missing is not None:  # stopped, the gateway could not be started again
        raise missing
    gateway_process.stop(home)
    return _started(gateway_process.start(home))


@click.command(short_help="Show whether the gateway runs and is ready.")
@verb("status")
def status(home: Home) -> Outcome:
    """Show the state, address and process of the gateway. The exit code is 0 only if the gateway is ready."""
    identity = instance_id(home)
    state = gateway_process.state_of(home)
    if not state.running and state.supervisor:
        gateway = f"is not running; its supervisor (process {state.supervisor}) is starting it"
    elif not state.running:
        gateway = "was uninstalled; its data is retained" if is_data_retained(home) else "is not running"
    elif state.ready:
        gateway = f"is ready at {state.url}"
        if state.url != state.local_url and state.listens_on is not None:
            gateway += f", listening on {state.listens_on}"
    else:
        gateway = "is running, but not ready"
    lines: list[Text] = [f"home      {home.path}", f"instance  {identity}", f"gateway   {gateway}"]
    if state.running:
        lines.append(f"process   {state.pid}, {_run_by(state)}, version {state.version or 'starting'}")
    if not is_data_retained(home):
        lines.append("service   " + (state.service or NO_SERVICE))
    missing = _missing_program(home)
    if missing is not None:
        lines.append(f"program   {missing.message}; the next start fails")
    hint = _hint(home, running=state.running or state.supervisor is not None)
    error = None if state.ready else missing or NotReadyError(f"the gateway {gateway}", hint=hint)
    facts = {"home": str(home.path), "instance_id": identity, **asdict(state)}
    facts["program_error"] = missing.to_dict() if missing is not None else None
    return Outcome(result=facts, lines=tuple(lines), error=error)


@click.command(short_help="Show the newest lines of the log.")
@click.option(
    "-n", "--lines", "count", type=click.IntRange(min=0), default=50, show_default=True, help="Lines to show."
)
@click.option("--postgres", is_flag=True, help="Show the log of PostgreSQL instead.")
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they are written, until interrupted.")
@verb("logs")
def logs(home: Home, *, count: int, postgres: bool, follow: bool) -> Outcome:
    """Show the newest lines of the gateway's log."""
    instance_id(home)
    path = home.postgres_log if postgres else home.gateway_log
    if follow:
        if click.get_current_context().params["as_json"]:
            raise UsageError("--follow and --json cannot be used together", hint="Use one of the two.")
        _follow(path, count)
        return Outcome()
    lines = tuple(tail_of(path, count))
    return Outcome(result={"file": str(path), "lines": list(lines)}, lines=lines)


def _missing_program(home: Home) -> ProgramMissingError | None:
    """Return the error of the next start if the program of *home* or its interpreter is missing."""
    try:
        program = current_program(home)
        if program is not None:
            check_interpreter(program)
    except ProgramMissingError as error:
        return error
    return None


def _refuse_retained(home: Home) -> None:
    if is_data_retained(home):
        raise NotInstalledError(f"{home.path} was uninstalled; its data is retained", hint=ADOPT)


def _run_by(state: gateway_process.GatewayState) -> str:
    if state.under_service:
        return "run by the service manager"
    return "in the background, run by its supervisor" if state.supervisor else "in the foreground"


def _started(started: gateway_process.Started) -> Outcome:
    verb_phrase = "is already running" if started.already else "is running"
    return Outcome(
        result={"url": started.url, "pid": started.pid, "already_running": started.already},
        lines=(f"The gateway {verb_phrase}: {started.url} (process {started.pid})",),
    )


def _hint(home: Home, *, running: bool) -> Text:
    if running:
        return f"See the log {home.gateway_log}: " + command("logs")
    return ADOPT if is_data_retained(home) else "Start it: " + command("start")


def _follow(path: Path, count: int) -> None:
    """Print the last *count* lines, then new lines as they are written, across rotations, until Ctrl-C."""
    try:
        with suppress(FileNotFoundError), open_regular(path) as stream:
            for line in read_tail(stream, count):
                click.echo(line)
            _print_until_replaced(path, stream)
        while True:  # the log was rotated, or does not exist yet
            time.sleep(FOLLOW_PAUSE)
            with suppress(FileNotFoundError), open_regular(path) as stream:
                _print_until_replaced(path, stream)
    except KeyboardInterrupt:
        return


def _print_until_replaced(path: Path, stream: BinaryIO) -> None:
    """Print what is appended to *stream* from its current position, until *path* is a different file."""
    while True:
        replaced = not (path.exists() and os.path.samestat(path.stat(), os.fstat(stream.fileno())))
        while chunk := stream.read(CHUNK):  # after the check: a replaced file is complete
            click.echo(chunk, nl=False)
        if replaced:
            return
        time.sleep(FOLLOW_PAUSE)
