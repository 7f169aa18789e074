"""The requests about files that root named on the command line, and about root's terminal."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from mosaic_gateway import __version__, fs
from mosaic_gateway.cli import INHERITED_DESCRIPTOR, NamedFileError, read_all
from mosaic_gateway.errors import InternalError
from mosaic_gateway.fs.record_fields import INSTANCE_ID
from mosaic_gateway.process import Account, Reply, Request, closed_part, find_path, open_directory
from mosaic_gateway_installer.root.authority import Answer, Authority, NotGrantedError

__all__ = ["CommandLineRequests", "HandedDirectory"]

#: Options whose files root opens for the worker.
INPUTS = frozenset({"password_file", "database_url_file"})
DIRECTORY_OPTION = "directory"


@dataclass(frozen=True, slots=True)
class HandedDirectory:
    """A directory in ``place`` that the account fills; it is named ``temporary`` at first, and ``name`` when complete.

    ``directory`` is an open descriptor of ``place``; every operation uses it.
    """

    place: Path
    directory: int
    temporary: str
    name: str

    @classmethod
    def create(cls, place: Path, account: Account) -> HandedDirectory:
        """Create it, and *place* if missing; make *account* its owner. Raises UnsafePathError, OSError."""
        with find_path(place, roots=True) as found:
            directory, path = open_directory(found), found.path
        stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{__version__}"
        existing = set(os.listdir(directory))  # noqa: PTH208 - of a descriptor
        names = (stamp, *(f"{stamp}-{number}" for number in range(2, 1000)))
        name = next(name for name in names if name not in existing)
        created = cls(path, directory, fs.temporary_sibling(path / name).name, name)
        os.mkdir(created.temporary, 0o700, dir_fd=directory)
        inner = os.open(created.temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        try:
            os.fchown(inner, account.uid, account.gid)
        finally:
            os.close(inner)
        return created

    def complete(self) -> None:
        """Rename it to ``name``. Raises OSError."""
        os.rename(self.temporary, self.name, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        os.close(self.directory)

    def discard(self) -> None:
        """Remove it if it is empty."""
        with suppress(OSError):
            os.rmdir(self.temporary, dir_fd=self.directory)
        os.close(self.directory)


class CommandLineRequests:
    """Answers the requests about what root typed; no path is taken from a request."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._new_directory: HandedDirectory | None = None

    @property
    def answers(self) -> Mapping[Request, Answer]:
        """The requests, and what answers them."""
        return {
            Request.READ_INPUT: self._read_input,
            Request.OPEN_OUTPUT: self._open_output,
            Request.MAKE_DIRECTORY: self._make_directory,
            Request.KEEP_DIRECTORY: self._keep_directory,
            Request.PROMPT: self._prompt,
        }

    def _read_input(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        option = values["option"]
        path = self._authority.call.options.get(option) if option in INPUTS else None
        if not isinstance(path, Path):
            raise NotGrantedError(f"root gave no file with option {option!r}")
        inherited = INHERITED_DESCRIPTOR.fullmatch(str(path))
        try:
            if inherited is not None:
                with open(int(inherited[1] or 0), "rb", closefd=False) as stream:
                    content = read_all(stream, path)
            else:
                with find_path(path) as found, fs.open_regular(found.name, dir_fd=found.parent) as stream:
                    content = read_all(stream, path)
        except OSError as error:
            raise NamedFileError(f"{path} cannot be read: {error.strerror}") from error
        return {"content": base64.b64encode(content).decode()}, []

    def _open_output(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        path = self._authority.call.output
        if not isinstance(path, Path):
            raise NotGrantedError("root gave no file to write")
        with find_path(path) as found:
            if found.status is not None or len(found.missing) != 1:
                raise NamedFileError(
                    f"{path} cannot be written", hint="Give a file that does not exist, in an existing directory."
                )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return {}, [os.open(found.name, flags, 0o600, dir_fd=found.parent)]

    def _make_directory(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        """Create a directory for the account in the directory that root named, which only root may be able to change.

        The account becomes its owner.
        """
        path = self._authority.call.options.get(DIRECTORY_OPTION)
        if not isinstance(path, Path) or self._new_directory is not None:
            raise NotGrantedError("root gave no directory, or one was already created in it")
        closed = closed_part(path, self._authority.account)
        if closed is not None:
            raise NamedFileError(
                f"{self._authority.account.name}, which writes the backup, has no access to {closed}",
                hint="Give a directory below one that every user can enter: --to DIR",
            )
        try:
            self._new_directory = created = HandedDirectory.create(path, self._authority.account)
        except NotADirectoryError as error:
            raise NamedFileError(f"{path} is not a directory", hint="Give another one: --to DIR") from error
        return {"path": str(created.place / created.temporary), "name": created.name}, []

    def _keep_directory(self, _values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        if self._new_directory is None:
            raise NotGrantedError("no directory was created")
        created, self._new_directory = self._new_directory, None
        created.complete()
        return {"path": str(created.place / created.name)}, []

    def _prompt(self, values: Mapping[str, Any], _descriptors: Sequence[int]) -> Reply:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return {"text": self._prompted(values)}, []
        except (KeyboardInterrupt, click.Abort):
            raise InternalError("interrupted", hint="Run the command again to continue.") from None
        finally:
            signal.signal(signal.SIGINT, before)

    def _prompted(self, values: Mapping[str, Any]) -> str:
        call = self._authority.call
        if call.verb == "auth users remove":
            question = f"Remove {call.options['email']} with everything that belongs to this user?"
            return "yes" if click.confirm(question, err=True) else "no"
        if call.verb != "uninstall":
            return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
        identity = str(values["instance_id"])
        if not INSTANCE_ID.fullmatch(identity):
            raise ValueError(identity)
        click.echo(f"This removes all data and all backups of {self._authority.path} for good.", err=True)
        return str(click.prompt(f"Type the instance id ({identity}) to go on", err=True))

    def close(self) -> None:
        """Discard an incomplete directory."""
        if self._new_directory is not None:
            self._new_directory.discard()
