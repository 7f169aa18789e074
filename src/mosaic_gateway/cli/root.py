"""The root command: dispatches to the verbs and turns every error into an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import click

from mosaic_gateway import __version__
from mosaic_gateway.cli.envelope import render_error
from mosaic_gateway.cli.invocation import Invocation, RootSide, Verbs
from mosaic_gateway.cli.lazy import LazyGroup
from mosaic_gateway.errors import ExitCode, UsageError
from mosaic_gateway.hint import PROGRAM
from mosaic_gateway.process.root_requests import Broker

__all__ = ["RUNTIME_VERBS", "main", "make_root", "run", "run_words"]

_PROCESS = "mosaic_gateway.cli.gateway"
RUNTIME_VERBS: Verbs = {
    "start": (_PROCESS, "start", "Start the gateway in the background."),
    "stop": (_PROCESS, "stop", "Stop the gateway and its database."),
    "restart": (_PROCESS, "restart", "Stop the gateway, then start it."),
    "status": (_PROCESS, "status", "Show whether the gateway runs and is ready."),
    "logs": (_PROCESS, "logs", "Show the newest lines of the log."),
    "serve": ("mosaic_gateway.cli.serve", "serve", "Run the gateway in the foreground."),
    "storage": ("mosaic_gateway.cli.storage.group", "storage", "The database schema: status, plan, migrate and more."),
    "auth": ("mosaic_gateway.cli.auth", "auth", "Users: create, list, set-password."),
    "bootstrap": ("mosaic_gateway.cli.bootstrap", "bootstrap", "The first admin: status, setup, link."),
    "config": ("mosaic_gateway.cli.config", "config", "Show the effective settings."),
    "completion": ("mosaic_gateway.cli.completion", "completion", "Print a script that completes this command."),
}
HELP = "Install, run and maintain a self-hosted gateway and its database."


def make_root(verbs: Verbs) -> click.Group:
    """Return the root command with *verbs* as its subcommands."""
    root = LazyGroup(PROGRAM, commands_at=verbs, help=HELP, context_settings={"max_content_width": 100})
    return click.version_option(__version__, prog_name=PROGRAM)(root)


def run(
    verbs: Verbs,
    arguments: Sequence[str] | None = None,
    *,
    root_side: RootSide | None = None,
    load: Callable[[str], None] = lambda _verb: None,
) -> int:
    """Run the command line *arguments* (default: ``sys.argv``) with *verbs* and return the exit code.

    *root_side* runs verbs that root calls on an account's home; *load* imports what a verb needs.
    """
    _open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    return run_words(verbs, words, root_side=root_side, load=load)


def run_words(
    verbs: Verbs,
    words: Sequence[str],
    *,
    broker: Broker | None = None,
    root_side: RootSide | None = None,
    load: Callable[[str], None] = lambda _verb: None,
) -> int:
    """Run the command line *words* and return the exit code; *broker* is set in a worker of root's process."""
    invocation = Invocation(
        verbs=verbs,
        words=words,
        directory=_directory(broker),
        broker=broker,
        root_side=root_side,
        load=load,
    )
    try:
        code = make_root(verbs).main(list(words), prog_name=PROGRAM, standalone_mode=False, obj=invocation)
    except click.UsageError as error:
        if "--json" in words:
            path = error.ctx.command_path if error.ctx else PROGRAM
            usage = UsageError(error.format_message(), hint=f"See {path} --help.")
            render_error(path.removeprefix(PROGRAM).strip(), usage, as_json=True)
        else:
            error.show()
        return ExitCode.USAGE
    except click.ClickException as error:
        error.show()
        return ExitCode.FAILED
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return code if isinstance(code, int) else ExitCode.DONE


def _open_streams() -> None:
    """Open /dev/null for standard streams that the caller closed, so that no other file gets their descriptors."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _directory(broker: Broker | None) -> Path:
    if broker is not None:
        return Path(str(broker.facts.get("directory", "/")))
    with suppress(OSError):  # the directory was removed
        return Path(os.getcwd())  # noqa: PTH109 - Path.cwd would be the same
    return Path("/")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line without the installer's verbs and return the exit code."""
    from mosaic_gateway.cli.owner_process import OwnerOnly
    from mosaic_gateway.cli.preload import load

    return run(RUNTIME_VERBS, arguments, root_side=OwnerOnly(), load=load)
