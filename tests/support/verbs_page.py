"""Prints docs/reference/verbs.md: ``python tests/support/verbs_page.py > docs/reference/verbs.md``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import click

from mosaic_gateway.cli.root import make_root
from mosaic_gateway_installer.cli import VERBS

__all__ = ["verbs_page"]

PROGRAM = "mosaic-gateway"
HEAD = """\
# Verbs

This page is generated from the command line: `python tests/support/verbs_page.py > docs/reference/verbs.md`.
`--help` prints the same text. Exit codes and JSON output: [exit codes](exit-codes.md).

Nearly every verb has these options:

| option | description |
|---|---|
"""
#: Options of nearly every verb, listed once.
COMMON = ("home", "as_json")


def verbs_page() -> str:
    """Return the page in Markdown: a section for each command, in the order of ``--help``."""
    root = make_root(VERBS)
    context = click.Context(root, info_name=PROGRAM)
    commands = list(_commands(root, context))
    common = {option.name: option for _, command in commands for option in _options(command)}
    head = HEAD + "".join(_option_row(common[name]) for name in COMMON)
    return head + "".join(_section(context, command) for context, command in commands)


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[click.Context, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        inner = click.Context(command, info_name=name, parent=context)
        yield inner, command
        if isinstance(command, click.Group):
            yield from _commands(command, inner)


def _section(context: click.Context, command: click.Command) -> str:
    words = context.command_path.removeprefix(f"{PROGRAM} ")
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    parts = [f"\n{'#' * (words.count(' ') + 2)} {words}\n", f"```\n{usage}\n```\n", *_paragraphs(command.help or "")]
    if isinstance(command, click.Group):
        names = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
        rows = [f"| [`{name}`](#{_anchor(f'{words} {name}')}) | {_cell(_short(inner))} |\n" for name, inner in names]
        parts.append("| verb | description |\n|---|---|\n" + "".join(rows))
    options = [option for option in _options(command) if option.name not in COMMON]
    if options:
        parts.append("| option | description |\n|---|---|\n" + "".join(map(_option_row, options)))
    return "\n".join(parts)


def _paragraphs(text: str) -> list[str]:
    r"""Return the paragraphs of a help text; one that click does not wrap (``\b``) is a code block."""
    found = []
    for paragraph in inspect.cleandoc(text.partition("\f")[0]).split("\n\n"):
        verbatim, lines = paragraph.startswith("\b"), paragraph.removeprefix("\b\n").splitlines()
        found.append("```\n" + "\n".join(lines) + "\n```\n" if verbatim else _plain(" ".join(lines)) + "\n")
    return found


def _options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option) and not parameter.hidden]


def _option_row(option: click.Option) -> str:
    # click's own words, as in --help; the context decides nothing about them.
    names, text = option.get_help_record(click.Context(click.Command(PROGRAM), show_default=False)) or ("", "")
    return f"| `{_cell(names)}` | {_cell(_plain(' '.join(text.split())))} |\n"


def _short(command: click.Command | None) -> str:
    return command.get_short_help_str(limit=200) if command is not None else ""


def _plain(text: str) -> str:
    return text.replace("``", "`")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _anchor(words: str) -> str:
    return words.replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(verbs_page())
