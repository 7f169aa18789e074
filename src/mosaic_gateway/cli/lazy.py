"""A click group whose commands are imported when they are called, not when help is shown."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["LazyGroup"]


class LazyGroup(click.Group):
    """A group over ``name -> (module, attribute, short help)``."""

    def __init__(self, *args: Any, commands_at: Mapping[str, tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order in which they were given."""
        return list(self._commands_at)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import and return a command."""
        place = self._commands_at.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(place[0]), place[1])
        if not isinstance(command, click.Command):
            raise TypeError(place)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with *incomplete*, without importing a command."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=place[2])
            for name, place in self._commands_at.items()
            if name.startswith(incomplete)
        ]
        # Not the group's own answer, which would import every command for its help.
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing one."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, place[2]) for name, place in self._commands_at.items()])
