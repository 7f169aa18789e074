"""The root command: verbs by name, and one way out for every error."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import click

from mosaic_gateway import __version__
from mosaic_gateway.cli.envelope import INTERRUPTED, render_error
from mosaic_gateway.cli.lazy import LazyGroup
from mosaic_gateway.errors import ExitCode, UsageError

__all__ = ["RUNTIME_VERBS", "main", "make_root", "run"]

_PROCESS = "mosaic_gateway.cli.process"
RUNTIME_VERBS: Mapping[str, tuple[str, str, str]] = {
    "start": (_PROCESS, "start", "Start the gateway in the background."),
    "stop": (_PROCESS, "stop", "Stop the gateway and its database."),
    "restart": (_PROCESS, "restart", "Stop the gateway, then start it."),
    "status": (_PROCESS, "status", "Say what runs, where, and whether it is ready."),
    "logs": (_PROCESS, "logs", "Show the newest lines of the log."),
    "serve": ("mosaic_gateway.cli.serve", "serve", "Run the gateway in the foreground."),
    "storage": ("mosaic_gateway.cli.storage.group", "storage", "The database schema: status, plan, migrate and more."),
    "auth": ("mosaic_gateway.cli.auth", "auth", "Users: create, list, set-password."),
    "bootstrap": ("mosaic_gateway.cli.bootstrap", "bootstrap", "The first admin: status, setup, link."),
    "config": ("mosaic_gateway.cli.config", "config", "Show the settings in force."),
    "completion": ("mosaic_gateway.cli.completion", "completion", "Print a script that completes this command."),
}
PROGRAM = "mosaic-gateway"
HELP = "A self-hosted gateway: install it, run it, keep its database whole."


def make_root(verbs: Mapping[str, tuple[str, str, str]]) -> click.Group:
    """Return the root command over *verbs*."""
    root = LazyGroup(PROGRAM, commands_at=verbs, help=HELP, context_settings={"max_content_width": 100})
    return click.version_option(__version__, prog_name=PROGRAM)(root)


def run(verbs: Mapping[str, tuple[str, str, str]], arguments: Sequence[str] | None = None) -> int:
    """Run the command line *arguments* (default: this process's) over *verbs* and return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = make_root(verbs).main(words, prog_name=PROGRAM, standalone_mode=False)
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
        return INTERRUPTED
    return code if isinstance(code, int) else ExitCode.DONE


def main() -> int:
    """Entry point without the installer's verbs."""
    return run(RUNTIME_VERBS)
