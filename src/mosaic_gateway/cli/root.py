"""The root command: dispatches to the verbs, and turns every error into an exit code.

A verb's module is imported when the verb is called, not when help is shown (`LazyGroup`). The verb ``completion``,
which prints the shell script that completes verbs and options, is here, because it is about the whole command.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway import __version__
from mosaic_gateway.cli.envelope import render_error
from mosaic_gateway.cli.invocation import Invocation, RootSide, Verbs
from mosaic_gateway.cli.typed_program import typed_program
from mosaic_gateway.errors import ExitCode, UsageError
from mosaic_gateway.hint import PROGRAM
from mosaic_gateway.process.environment import process_environment
from mosaic_gateway.process.root_requests import Broker

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMPLETION_VARIABLE", "RUNTIME_VERBS", "LazyGroup", "completion", "make_root", "run", "run_words"]

_PROCESS = "mosaic_gateway.cli.gateway"
RUNTIME_VERBS: Verbs = {
    "start": (_PROCESS, "start", "Start the gateway in the background."),
    "stop": (_PROCESS, "stop", "Stop the gateway and its database."),
    "restart": (_PROCESS, "restart", "Stop the gateway, then start it."),
    "status": (_PROCESS, "status", "Show whether the gateway runs and is ready."),
    "logs": (_PROCESS, "logs", "Show the newest lines of the log."),
    "serve": ("mosaic_gateway.cli.serve", "serve", "Run the gateway in the foreground."),
    "storage": ("mosaic_gateway.cli.storage.group", "storage", "The database schema: status, plan, migrate and more."),
    "auth": ("mosaic_gateway.cli.auth.group", "auth", "Users, their sessions and API tokens."),
    "bootstrap": ("mosaic_gateway.cli.bootstrap", "bootstrap", "The first admin: status, setup, link."),
    "config": ("mosaic_gateway.cli.config", "config", "Show and change the settings."),
    "completion": ("mosaic_gateway.cli.root", "completion", "Print a script that completes this command."),
}
HELP = "Install, run and maintain a self-hosted gateway and its database."
SHELLS = ("bash", "zsh", "fish")
#: Set by the shell's completion function when it calls the command (click.shell_completion).
COMPLETION_VARIABLE = "_MOSAIC_GATEWAY_COMPLETE"

COMPLETION_HELP = """Print a script that lets the given shell complete verbs and options.

\b
bash:  mosaic-gateway completion bash > ~/.local/share/bash-completion/completions/mosaic-gateway
zsh:   mosaic-gateway completion zsh > _mosaic-gateway   (in a directory of $fpath)
fish:  mosaic-gateway completion fish > ~/.config/fish/completions/mosaic-gateway.fish
"""


class LazyGroup(click.Group):
    """A group of commands given as ``name -> (module, attribute, short help)``."""

    def __init__(self, *args: Any, commands_at: Mapping[str, tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the mapping."""
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command."""
        location = self._commands_at.get(cmd_name)
        if location is None:
            return None
        module, attribute, _ = location
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(location)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with *incomplete*, without importing a command."""
        from click.shell_completion import CompletionItem

        commands = [
            CompletionItem(name, help=text)
            for name, (_, _, text) in self._commands_at.items()
            if name.startswith(incomplete)
        ]
        # Group.shell_complete would import every command for its help.
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Format the list of commands without importing any."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in self._commands_at.items()])


def make_root(verbs: Verbs) -> click.Group:
    """Return the root command with *verbs* as its subcommands."""
    settings = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}
    root = LazyGroup(PROGRAM, commands_at=verbs, help=HELP, context_settings=settings)
    return click.version_option(__version__, prog_name=PROGRAM)(root)


def run(
    verbs: Verbs,
    arguments: Sequence[str] | None = None,
    *,
    root_side: RootSide | None = None,
    load: Callable[[str], None] = lambda _verb: None,
    started_as: str | None = None,
) -> int:
    """Run the command line *arguments* (default: ``sys.argv``) with *verbs* and return the exit code.

    *root_side* runs verbs that root calls on an account's home; *load* imports what a verb needs. *started_as* is the
    file that was started, if that is not ``sys.argv[0]``.
    """
    _open_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    program = typed_program(started_as or sys.argv[0], process_environment().get("PATH"))
    return run_words(verbs, words, root_side=root_side, load=load, program=program)


def run_words(
    verbs: Verbs,
    words: Sequence[str],
    *,
    broker: Broker | None = None,
    root_side: RootSide | None = None,
    load: Callable[[str], None] = lambda _verb: None,
    program: str = PROGRAM,
) -> int:
    """Run the command line *words* and return the exit code.

    *broker* is set in a worker of root's process. *program* is the command that hints name.
    """
    invocation = Invocation(
        verbs=verbs,
        words=words,
        directory=_directory(broker),
        broker=broker,
        root_side=root_side,
        load=load,
        program=program if broker is None else str(broker.facts.get("program", PROGRAM)),
    )
    try:
        code = make_root(verbs).main(list(words), prog_name=PROGRAM, standalone_mode=False, obj=invocation)
    except click.UsageError as error:
        error = _with_suggestion(error)
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


def _with_suggestion(error: click.UsageError) -> click.UsageError:
    """Return *error*; if it is about an unknown command, with the name of a similar one."""
    from difflib import get_close_matches

    unknown = re.match(r"No such command '(.*)'", error.message)
    if unknown and error.ctx is not None and isinstance(error.ctx.command, click.Group):
        similar = get_close_matches(unknown[1], error.ctx.command.list_commands(error.ctx), n=1)
        if similar:
            return click.UsageError(f"No such command '{unknown[1]}'. Did you mean '{similar[0]}'?", ctx=error.ctx)
    return error


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


@click.command(help=COMPLETION_HELP, short_help="Print a script that completes this command.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print click's completion script for *shell*."""
    from click.shell_completion import get_completion_class

    root = context.find_root()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(root.command, {}, root.info_name or "mosaic-gateway", COMPLETION_VARIABLE).source())
