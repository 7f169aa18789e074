"""The program that a home runs: its own copy of the gateway, or this very package where it has none.

Theory of operation. ``gateway-<version>`` is a copy of an installed distribution and all that it needs; the link
``current`` names the one in use. It is run by the interpreter that its manifest names, isolated from
everything else (``-I -S``), as ``<python> -I -S -B <copy> <verb> …``; so what happens to the environment that
the package was installed into harms no gateway that runs. Copies of an ordinary user lie in the home; those of an
installation that root made lie in a directory of root's, which the home's account can read and not change.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.errors import PreflightError, RefusedError
from mosaic_gateway.fs.files import LARGE
from mosaic_gateway.fs.record_fields import (
    PROGRAM_NAME,
    VERSION,
    Field,
    RecordError,
    digest,
    entries,
    integer,
    mapping,
    matching,
    nested,
    path_text,
    read_record,
    relative_path,
    row,
    text,
)
from mosaic_gateway.installation.layout import Home

__all__ = [
    "CURRENT",
    "MANIFEST",
    "OPTIONS",
    "OtherVersionError",
    "Program",
    "ProgramMissingError",
    "archive_descriptors",
    "current_link",
    "current_program",
    "is_kept",
    "program_words",
    "read_program",
    "refuse_other_version",
    "this_program",
]

CURRENT = "current"
MANIFEST = "manifest.json"
OPTIONS = ("-I", "-S", "-B")
#: A manifest that a reader can use; the writer's own module checks what else is in it.
FIELDS = {
    "version": Field(matching(VERSION, "a version")),
    "python": Field(path_text),
    "snapshot": Field(integer, 0),
    "identity": Field(text, ""),
    "cache_tag": Field(text, ""),
    #: Path below the copy → size in bytes, SHA-256.
    "files": Field(mapping(relative_path, row(integer, digest)), {}),
    "distributions": Field(entries(nested({"name": Field(text), "digest": Field(text, "")})), ()),
}
STATE = {"state": Field(text), "version": Field(matching(VERSION, "a version"))}


class ProgramMissingError(PreflightError):
    """The home's copy of the gateway, or the interpreter that it was made for, is gone or damaged."""

    code = "PROGRAM_MISSING"


class OtherVersionError(RefusedError):
    """The installation is of another version than this program."""

    code = "UPGRADE_NEEDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A copy: ``version`` of the gateway in ``directory``, made for the interpreter ``python``.

    ``manifest`` is the record of how it was made.
    """

    directory: Path
    version: str
    python: Path
    manifest: dict[str, Any] = field(repr=False, compare=False)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that run it, before a verb."""
        return (str(self.python), *OPTIONS, str(self.directory))


def current_link(home: Home) -> Path:
    """Return the link that names the copy in use."""
    return home.runtime / CURRENT


def current_program(home: Home) -> Program | None:
    """Return the copy that *home* runs, None where it has none. Raises `ProgramMissingError`, OSError."""
    try:
        name = os.readlink(current_link(home))  # noqa: PTH115 - a name is wanted, not a path
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # not a link
        raise _damaged(current_link(home), error) from error
    if not PROGRAM_NAME.fullmatch(name):
        raise ProgramMissingError(
            f"{current_link(home)} leads to {name!r}, which is no copy of the gateway",
            hint="Run mosaic-gateway install, which repairs it.",
        )
    return read_program(home.runtime / name)


def read_program(directory: Path) -> Program:
    """Return the copy in *directory*. Raises `ProgramMissingError` where its manifest cannot be read."""
    try:
        manifest = read_record(directory / MANIFEST, FIELDS, limit=LARGE)
    except (OSError, RecordError) as error:
        raise _damaged(directory, error) from error
    return Program(directory=directory, version=manifest["version"], python=Path(manifest["python"]), manifest=manifest)


def is_kept(home: Home) -> bool:
    """Return whether *home* was uninstalled and its data kept, as far as its receipt says so."""
    return _installed(home)[0] == "kept"


def _installed(home: Home) -> tuple[str | None, str | None]:
    """Return state and version from the receipt; None twice where it cannot be read, which others report."""
    try:
        receipt = read_record(home.receipt, STATE)
    except (OSError, RecordError):
        return None, None
    return receipt["state"], receipt["version"]


def refuse_other_version(home: Home) -> None:
    """Keep this program from serving a complete installation of another version, whose data it would change.

    Raises `OtherVersionError`.
    """
    state, installed = _installed(home)
    if state == "installed" and installed != __version__:
        raise OtherVersionError(
            f"{home.path} is an installation of version {installed}; this is {__version__}",
            hint=f"For {__version__}, with a backup and a way back: mosaic-gateway upgrade. "
            f"For {installed}: the package of that version.",
            details={"installed": installed, "version": __version__},
        )


def archive_descriptors() -> frozenset[int]:
    """Return the descriptors that this process imports its modules from: of a copy's archive (`snapshot.finder`)."""
    found = (getattr(finder, "archive", None) for finder in sys.meta_path)
    return frozenset(descriptor for descriptor in found if isinstance(descriptor, int))


def this_program() -> tuple[str, ...]:
    """Return the words that run what this process runs."""
    snapshot = getattr(sys.modules["__main__"], "SNAPSHOT", None)
    if snapshot is None:
        return (sys.executable, "-P", "-m", "mosaic_gateway")
    return (sys.executable, *OPTIONS, snapshot)


def program_words(program: Program | None) -> tuple[str, ...] | None:
    """Return the words that run *program* (None: this package); None where this user cannot run its interpreter.

    Raises `ProgramMissingError` where the interpreter is gone.
    """
    if program is None:
        return this_program()
    if os.access(program.python, os.X_OK):
        return program.words
    try:
        program.python.stat()
    except PermissionError:
        return None
    except OSError:
        raise _no_interpreter(program) from None
    return None


def _no_interpreter(program: Program) -> ProgramMissingError:
    return ProgramMissingError(
        f"{program.python} is gone, for which {program.directory} was made",
        hint="Install mosaic-gateway with a Python of today, then run mosaic-gateway install.",
    )


def _damaged(directory: Path, error: Exception) -> ProgramMissingError:
    return ProgramMissingError(
        f"the gateway's program in {directory} cannot be used: {error}",
        hint="Run mosaic-gateway install, which makes it anew.",
    )
