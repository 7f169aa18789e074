"""Commands that hints name exist, with the options that hints give them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import TypeGuard

import click
import pytest

import mosaic_gateway
import mosaic_gateway_installer
from mosaic_gateway.cli.root import make_root
from mosaic_gateway.hint import ON_A_DATABASE
from mosaic_gateway_installer.cli import VERBS

FOLDERS = [Path(package.__path__[0]) for package in (mosaic_gateway, mosaic_gateway_installer)]
MODULES = [(path.relative_to(folder.parent).as_posix(), path) for folder in FOLDERS for path in folder.rglob("*.py")]
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES}
#: Module → why a string in it may name a command.
PLAIN = {
    "mosaic_gateway/cli/root.py": "a help text, which has shell redirections",
    "mosaic_gateway/migrations/authoring.py": "the content of a new migration file",
    "mosaic_gateway_installer/program_copy/entry.py": "the message of a program that cannot import its modules",
}

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
#: Options of pip, mount and useradd, and one of every verb.
OF_OTHERS = {"--bind", "--force-reinstall", "--help", "--no-deps", "--system", "--upgrade"}


def _leaves(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(command, click.Group):
        yield " ".join(words), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from _leaves(inner, (*words, name))


COMMANDS = dict(_leaves(make_root(VERBS)))
NAMED = re.compile(rf"mosaic-gateway ({'|'.join(COMMANDS)})\b(?!-)")


def _is_command(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "command"


def _calls() -> Iterator[tuple[str, ast.Call]]:
    """Yield each call of `hint.command` with its place."""
    for name, tree in TREES.items():
        imported = any(
            isinstance(node, ast.ImportFrom) and node.module == "mosaic_gateway.hint"
            and any(alias.name == "command" for alias in node.names)
            for node in ast.walk(tree)
        )  # fmt: skip
        if imported:
            yield from ((f"{name}:{node.lineno}", node) for node in ast.walk(tree) if _is_command(node))


def _word(node: ast.AST) -> str:
    """Return an argument of a command; a value that is known at run time only is ``x``."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    return "".join(map(_word, node.values)) if isinstance(node, ast.JoinedStr) else "x"


CALLS = dict(_calls())


def test_hints_name_commands() -> None:
    """The search finds the commands in hints."""
    assert len(CALLS) > 60


@pytest.mark.parametrize("place", CALLS)
def test_a_command_in_a_hint_exists(place: str) -> None:
    """The verb exists and has ``--home``; click accepts the arguments."""
    verb, *arguments = CALLS[place].args
    command = COMMANDS[ast.literal_eval(verb)]
    assert "home" in {option.name for option in command.params}
    parser = command.make_parser(click.Context(command))
    _, left, _ = parser.parse_args([_word(argument) for argument in arguments])
    assert left == []


def test_verbs_on_a_database() -> None:
    """The verbs that get the caller's database are those that have its options."""
    having = {
        verb for verb, command in COMMANDS.items() if {"folder", "database_url"} <= {p.name for p in command.params}
    }
    assert having == ON_A_DATABASE


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = takewhile(lambda one: isinstance(one, ast.Expr), node.body[:1])
            yield from (id(one.value) for one in first if isinstance(one, ast.Expr))


def _names_of_connections(tree: ast.Module) -> Iterator[int]:
    """Yield the values of ``application_name=`` and of constants called APPLICATION, which PostgreSQL shows."""
    for node in ast.walk(tree):
        named = node.arg if isinstance(node, ast.keyword) else ""
        named = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else named
        if isinstance(node, ast.keyword | ast.Assign) and named in {"application_name", "APPLICATION"}:
            yield id(node.value)


def test_no_plain_text_names_a_command() -> None:
    """A command in a text is a value, not part of a string."""
    found = set()
    for name, tree in TREES.items():
        ignored = {*_docstrings(tree), *_names_of_connections(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in ignored and NAMED.search(_word(node)):
                found.add(name)
    assert found == set(PLAIN)


def _hints_of(tree: ast.Module) -> Iterator[str]:
    """Yield the names of a module's variables and functions that are hints."""
    yield from ("hint", "full_message", "command")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(map(_is_command, ast.walk(node.value))):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef) and node.returns and ast.unparse(node.returns) in {"Text", "Hint"}:
            yield node.name


def test_no_string_is_formatted_with_a_hint() -> None:
    """A hint is added with ``+``; an f-string renders it too early, and must say so: ``{hint!s}``."""
    for name, tree in TREES.items():
        hints = set(_hints_of(tree)) if "mosaic_gateway.hint" in ast.unparse(tree) else {"hint", "full_message"}
        for node in ast.walk(tree):
            if isinstance(node, ast.FormattedValue) and node.conversion == -1:
                used = {getattr(one, "attr", getattr(one, "id", "")) for one in ast.walk(node.value)}
                assert not used & hints, f"{name}:{node.lineno}"


def test_options_in_hints_exist() -> None:
    """Each option in a hint is one of some verb, or of another program that the hint names."""
    parameters = [one for command in COMMANDS.values() for one in command.params]
    known = OF_OTHERS.union(*({*one.opts, *one.secondary_opts} for one in parameters))
    hints = [
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if (isinstance(node, ast.keyword) and node.arg == "hint")
        or (isinstance(node, ast.Assign) and "hint" in ast.unparse(node.targets[0]).lower())
    ]
    found = {option for hint in hints for node in ast.walk(hint) for option in OPTION.findall(_word(node))}
    assert "--home" in found
    assert found <= known
