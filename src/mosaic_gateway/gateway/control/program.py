"""The program that a home runs: its own copy of the gateway, or the running package if it has none.

Theory of operation. ``gateway-<version>`` is a copy of an installed distribution and its dependencies; the symbolic
link ``current`` names the copy in use. It is run as ``<python> -I -S -B <copy> <verb> …`` by the interpreter that
its manifest names, isolated (``-I -S``) from the environment that the package was installed into, so that changes
there do not affect a running gateway. Copies of an ordinary user are in the home; those of an installation created
by root are in a root-owned directory, which the service account can read but not change.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mosaic_gateway import __version__, installation
from mosaic_gateway.errors import MosaicError, PreflightError, RefusedError
from mosaic_gateway.fs.files import LARGE
from mosaic_gateway.fs.permissions import access_denied
from mosaic_gateway.fs.record_fields import (
    PROGRAM_NAME,
    Field,
    RecordError,
    digest,
    entries,
    integer,
    mapping,
    nested,
    optional,
    path_text,
    read_record,
    relative_path,
    row,
    text,
    version,
)
from mosaic_gateway.hint import command

__all__ = [
    "CURRENT",
    "MANIFEST",
    "OPTIONS",
    "OtherVersionError",
    "Program",
    "ProgramMissingError",
    "archive_descriptors",
    "check_interpreter",
    "closed_interpreter",
    "current_link",
    "current_program",
    "interpreter_missing",
    "is_data_retained",
    "program_words",
    "read_program",
    "refuse_other_version",
    "this_program",
]

CURRENT = "current"
MANIFEST = "manifest.json"
OPTIONS = ("-I", "-S", "-B")
#: The manifest fields needed to run a copy; the module that writes manifests checks the others.
FIELDS = {
    "version": Field(version),
    "python": Field(path_text),
    #: A file of the interpreter's standard library, outside of the copy.
    "library": Field(optional(path_text), None),
    "snapshot": Field(integer, 0),
    "identity": Field(text, ""),
    "cache_tag": Field(text, ""),
    #: Relative path → size in bytes, SHA-256.
    "files": Field(mapping(relative_path, row(integer, digest)), {}),
    "distributions": Field(entries(nested({"name": Field(text), "digest": Field(text, "")})), ()),
}


class ProgramMissingError(PreflightError):
    """The home's program copy, or the interpreter that it was created for, is missing or damaged."""

    code = "PROGRAM_MISSING"


class OtherVersionError(RefusedError):
    """The installation has another version than this program."""

    code = "UPGRADE_NEEDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program copy: ``version`` of the gateway in ``directory``, to be run by the interpreter ``python``.

    ``manifest`` is the content of its manifest.json.
    """

    directory: Path
    version: str
    python: Path
    manifest: dict[str, Any] = field(repr=False, compare=False)

    @property
    def words(self) -> tuple[str, ...]:
        """The command line that runs it, without a verb."""
        return (str(self.python), *OPTIONS, str(self.directory))


def current_link(home: installation.Home) -> Path:
    """Return the path of the link that names the copy in use."""
    return home.runtime / CURRENT


def current_program(home: installation.Home) -> Program | None:
    """Return the copy that *home* runs, None if it has none. Raises `ProgramMissingError`, OSError."""
    try:
        name = os.readlink(current_link(home))  # noqa: PTH115 - the target is a name, not a path
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # not a link
        raise _damaged(current_link(home), error) from error
    if not PROGRAM_NAME.fullmatch(name):
        raise ProgramMissingError(
            f"{current_link(home)} points to {name!r}, which is not a program copy",
            hint="To repair it, run: " + command("install"),
        )
    return read_program(home.runtime / name)


def read_program(directory: Path) -> Program:
    """Return the copy in *directory*. Raises `ProgramMissingError` if its manifest cannot be read."""
    try:
        manifest = read_record(directory / MANIFEST, FIELDS, limit=LARGE)
    except (OSError, RecordError) as error:
        raise _damaged(directory, error) from error
    return Program(directory=directory, version=manifest["version"], python=Path(manifest["python"]), manifest=manifest)


def is_data_retained(home: installation.Home) -> bool:
    """Return whether *home* was uninstalled with its data retained, according to its receipt."""
    receipt = _receipt(home)
    return receipt is not None and receipt.state is installation.ReceiptState.RETAINED


def _receipt(home: installation.Home) -> installation.Receipt | None:
    """Return the receipt; None if it cannot be read, which other checks report."""
    try:
        return installation.read_receipt(home)
    except (OSError, MosaicError):
        return None


def refuse_other_version(home: installation.Home) -> None:
    """Raise `OtherVersionError` if *home* is a complete installation of another version.

    This program would migrate its data.
    """
    receipt = _receipt(home)
    if receipt is not None and receipt.state is installation.ReceiptState.INSTALLED and receipt.version != __version__:
        from packaging.version import Version

        installed = receipt.version
        use = f"use the command of the home: {home.launcher}"
        raise OtherVersionError(
            f"this command is version {__version__}; {home.path} runs version {installed}",
            hint=f"Version {installed} is the newer one: {use}"
            if Version(installed) > Version(__version__)
            else f"To upgrade to {__version__} (creates a backup, can be rolled back): " + command("upgrade") + ". "
            f"To run {installed}, {use}",
            details={"installed": installed, "version": __version__},
        )


def archive_descriptors() -> frozenset[int]:
    """Return the open descriptors of the archive that this process imports modules from (`program_copy.finder`)."""
    archives = (getattr(finder, "archive", None) for finder in sys.meta_path)
    return frozenset(descriptor for descriptor in archives if isinstance(descriptor, int))


def this_program() -> tuple[str, ...]:
    """Return the command line that runs the program of this process."""
    directory = getattr(sys.modules["__main__"], "PROGRAM_COPY", None)
    if directory is None:
        return (sys.executable, "-P", "-m", "mosaic_gateway")
    return (sys.executable, *OPTIONS, directory)


def program_words(program: Program | None) -> tuple[str, ...] | None:
    """Return the command line of *program* (None: this package), or None if this user may not run its interpreter.

    Raises `ProgramMissingError` if the interpreter does not exist.
    """
    if program is None:
        return this_program()
    check_interpreter(program)
    return program.words if os.access(program.python, os.X_OK) else None


def check_interpreter(program: Program) -> None:
    """Raise `ProgramMissingError` if the interpreter of *program* does not exist, or a file of its library.

    Another user's interpreter that this user may not run is accepted.
    """
    try:
        program.python.stat()
        library = program.manifest["library"]
        if library is not None:
            Path(library).stat()
    except PermissionError:
        return
    except OSError:
        raise interpreter_missing(program.python, program.directory) from None


def interpreter_missing(python: Path, runs: Path, home: Path | None = None) -> ProgramMissingError:
    """Return the error for the interpreter *python*, which *runs* a program copy or a *home*."""
    return ProgramMissingError(
        f"the interpreter {python} does not exist or is incomplete, which runs {runs}",
        hint="Install mosaic-gateway with a current Python, then run its " + command("install", home=home) + ".",
    )


def closed_interpreter(program: Program | None) -> ProgramMissingError:
    """Return the error for a program copy whose interpreter this user may not run."""
    assert program is not None  # noqa: S101 - this process runs its own interpreter
    denied = access_denied(program.python, f"the interpreter {program.python} of {program.directory} is closed")
    return ProgramMissingError(
        denied.message,
        hint="Install mosaic-gateway with a Python that this user can run, then run: " + command("install"),
        details=denied.details,
    )


def _damaged(directory: Path, error: Exception) -> ProgramMissingError:
    return ProgramMissingError(
        f"the program copy {directory} cannot be used: {error}",
        hint="To create it again, run: " + command("install"),
    )
