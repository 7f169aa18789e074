"""Input that the command line names: files, and passwords.

Files are read with the permissions of the calling user. A password is read from a prompt, standard input or a file,
never from an argument.
"""

from __future__ import annotations

import base64
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import click

from mosaic_gateway.cli.invocation import Invocation, current_invocation
from mosaic_gateway.errors import UsageError
from mosaic_gateway.process.root_requests import Broker, Request

__all__ = [
    "INHERITED_DESCRIPTOR",
    "ConfirmationMissingError",
    "NamedFileError",
    "PasswordSourceError",
    "password_options",
    "read_all",
    "read_named_file",
    "read_password",
]

LARGEST = 64 * 1024  # bytes
#: Paths of inherited file descriptors: ``--password-file <(…)`` (process substitution), ``--password-file /dev/stdin``.
INHERITED_DESCRIPTOR = re.compile(r"/dev/stdin|/(?:dev|proc/self)/fd/(\d+)")


class ConfirmationMissingError(UsageError):
    """A verb that destroys data was not confirmed, and there is no terminal for a prompt."""

    code = "CONFIRMATION_MISSING"


class NamedFileError(UsageError):
    """A file named on the command line cannot be read or created."""

    code = "NAMED_FILE"


def read_named_file(option: str, path: Path, invocation: Invocation | None) -> bytes:
    """Return the content of the file *path* given for *option*. Root's process reads a file that only root may read.

    Raises `NamedFileError`.
    """
    broker = invocation.broker if invocation is not None else None
    try:
        if broker is not None and INHERITED_DESCRIPTOR.fullmatch(str(path)):
            return _read_by_root(broker, option)
        with path.open("rb") as stream:
            return read_all(stream, path)
    except OSError as error:
        if broker is not None:
            return _read_by_root(broker, option)
        raise NamedFileError(f"{path} cannot be read: {error.strerror}") from error


def _read_by_root(broker: Broker, option: str) -> bytes:
    return base64.b64decode(broker.ask(Request.READ_INPUT, {"option": option})[0]["content"])


def read_all(stream: IO[bytes], path: Path) -> bytes:
    """Return the rest of *stream*, opened from *path*. Raises `NamedFileError` above `LARGEST` bytes, OSError."""
    content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise NamedFileError(f"{path} is larger than {LARGEST} bytes")
    return content


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
