"""The verb ``completion``: print the shell script that completes verbs and options."""

from __future__ import annotations

import click

__all__ = ["VARIABLE", "completion"]

SHELLS = ("bash", "zsh", "fish")
#: Set by the shell's completion function when it calls the command (click.shell_completion).
VARIABLE = "_MOSAIC_GATEWAY_COMPLETE"


HELP = """Print a script that lets the given shell complete verbs and options.

\b
bash:  mosaic-gateway completion bash > ~/.local/share/bash-completion/completions/mosaic-gateway
zsh:   mosaic-gateway completion zsh > _mosaic-gateway   (in a directory of $fpath)
fish:  mosaic-gateway completion fish > ~/.config/fish/completions/mosaic-gateway.fish
"""


@click.command(help=HELP, short_help="Print a script that completes this command.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print click's completion script for *shell*."""
    from click.shell_completion import get_completion_class

    root = context.find_root()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(root.command, {}, root.info_name or "mosaic-gateway", VARIABLE).source())
