"""Reads a password from a prompt, standard input or a file; never from an argument."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mosaic_gateway.cli.invocation import current_invocation
from mosaic_gateway.cli.named_file import read_named_file
from mosaic_gateway.errors import UsageError
from mosaic_gateway.process.root_requests import Request

__all__ = ["PasswordSourceError", "password_options", "read_password"]


class PasswordSourceError(UsageError):
    """The given source contains no usable password."""

    code = "PASSWORD_SOURCE"


def password_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--password-stdin`` and ``--password-file`` to a command."""
    function = click.option(
        "--password-file",
        type=click.Path(path_type=Path, readable=False),
        metavar="FILE",
        help="Read the password from a file.",
    )(function)
    return click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")(function)


def read_password(*, password_stdin: bool, password_file: Path | None) -> str:
    """Return the password without its line terminator. Raises `PasswordSourceError`, `NamedFileError`."""
    if password_stdin and password_file is not None:
        raise PasswordSourceError(
            "--password-stdin and --password-file cannot be used together", hint="Use one of the two."
        )
    if password_stdin and sys.stdin is not None:
        return _decode(sys.stdin.buffer.read(), "standard input")
    invocation = current_invocation()
    if password_file is not None:
        return _decode(read_named_file("password_file", password_file, invocation), str(password_file))
    if invocation is not None and invocation.broker is not None and invocation.broker.facts["terminal"]["input"]:
        return str(invocation.broker.ask(Request.PROMPT)[0]["text"])
    if sys.stdin is None or not sys.stdin.isatty():
        raise PasswordSourceError(
            "there is no terminal to prompt for the password", hint="Use --password-stdin or --password-file."
        )
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


def _decode(content: bytes, source: str) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PasswordSourceError(f"the password from {source} is not UTF-8") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise PasswordSourceError(f"{source} contains no password")
    return text
