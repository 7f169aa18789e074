"""The program that a home runs: its own copy of the gateway, or this very package where it has none.

Theory of operation. ``runtime/gateway-<version>`` is a snapshot of an installed distribution and all that it needs;
the link ``runtime/current`` names the one in use. It is run by the interpreter that its manifest names, isolated from
everything else (``-I -S``), as ``<python> -I -S -B <snapshot> <verb> …``; so what happens to the environment that
the package was installed into harms no gateway that runs.

Root never runs what somebody else could have changed. The home belongs to the service account, which could put
anything in the place of ``runtime``; so root starts the gateway as the account. Where that cannot be, because the
interpreter is closed to the account or the port to all but root, the directory is opened first, must be root's own
(its contents then are, too), and is run by its descriptor.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mosaic_gateway import __version__
from mosaic_gateway.config import Home
from mosaic_gateway.errors import PreflightError, RefusedError
from mosaic_gateway.process.account import Account, popen_identity

__all__ = [
    "CURRENT",
    "MANIFEST",
    "NAME",
    "Command",
    "OtherVersionError",
    "Program",
    "ProgramMissingError",
    "UnsafeProgramError",
    "command_for",
    "current_link",
    "current_program",
    "is_kept",
    "read_program",
    "refuse_other_version",
    "this_program",
]

CURRENT = "current"
MANIFEST = "manifest.json"
NAME = re.compile(r"gateway-[\w.+!]+")
OPTIONS = ("-I", "-S", "-B")
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PROBE_LIMIT = 20.0  # seconds
OTHERS_WRITE = 0o022
DESCRIPTORS = "/proc/self/fd/"
FIRST_FREE_PORT = 1024


class ProgramMissingError(PreflightError):
    """The home's copy of the gateway, or the interpreter that it was made for, is gone or damaged."""

    code = "PROGRAM_MISSING"


class UnsafeProgramError(RefusedError):
    """Root was to run a program that somebody else can change."""

    code = "PROGRAM_UNSAFE"


class OtherVersionError(RefusedError):
    """The installation is of another version than this program."""

    code = "UPGRADE_NEEDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A snapshot: ``version`` of the gateway in ``directory``, made for the interpreter ``python``.

    ``manifest`` is the whole record of how it was made.
    """

    directory: Path
    version: str
    python: Path
    manifest: dict[str, Any] = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How to start a program: the first words, as whom (None: ourselves), and descriptors that it inherits."""

    words: tuple[str, ...]
    account: Account | None = None
    descriptors: tuple[int, ...] = ()


#: The package that this process runs, where there is no snapshot.
PACKAGE = Command(words=(sys.executable, "-P", "-m", "mosaic_gateway"))


def current_link(home: Home) -> Path:
    """Return the link that names the snapshot in use."""
    return home.runtime / CURRENT


def current_program(home: Home) -> Program | None:
    """Return the snapshot that *home* runs, None where it has none. Raises `ProgramMissingError`, OSError."""
    try:
        name = os.readlink(current_link(home))  # noqa: PTH115 - a name is wanted, not a path
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not NAME.fullmatch(name):
        raise ProgramMissingError(
            f"{current_link(home)} leads to {name!r}, which is no copy of the gateway",
            hint="Run mosaic-gateway install, which mends it.",
        )
    return read_program(home.runtime / name)


def read_program(directory: Path) -> Program:
    """Return the snapshot in *directory*. Raises `ProgramMissingError` where its manifest cannot be read."""
    try:
        return _program(directory, (directory / MANIFEST).read_bytes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(directory, error) from error


def is_kept(home: Home) -> bool:
    """Return whether *home* was uninstalled and its data kept, as far as its receipt says so."""
    return _installed(home)[0] == "kept"


def _installed(home: Home) -> tuple[str | None, str | None]:
    """Return state and version from the receipt; None twice where it cannot be read, which others tell."""
    try:
        receipt = json.loads(home.receipt.read_bytes())
        return str(receipt["state"]), str(receipt["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


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


def this_program() -> Command:
    """Return the command that runs what this process runs, isolated as it is."""
    snapshot = getattr(sys.modules["__main__"], "SNAPSHOT", None)
    if snapshot is None:
        return PACKAGE
    inherited = (int(snapshot.removeprefix(DESCRIPTORS)),) if snapshot.startswith(DESCRIPTORS) else ()
    return Command(words=(sys.executable, *OPTIONS, snapshot), descriptors=inherited)


@contextmanager
def command_for(home: Home, program: Program | None, account: Account | None, *, port: int) -> Iterator[Command]:
    """Give the command that starts *program* (None: this package) for a home of *account*.

    *account* is None for ourselves. *port* is the one that it shall listen on. The command is good within the
    block. Raises `ProgramMissingError`, `UnsafeProgramError`, OSError.
    """
    if program is None:
        yield PACKAGE
        return
    if not os.access(program.python, os.X_OK):
        raise ProgramMissingError(
            f"{program.python} is gone, for which {program.directory} was made",
            hint="Install mosaic-gateway with a Python of today, then run mosaic-gateway install.",
        )
    words = (str(program.python), *OPTIONS)
    if account is None or os.geteuid() != 0:
        yield Command(words=(*words, str(program.directory)))
    elif not _is_privileged(port) and _can_run(account, words):
        yield Command(words=(*words, str(program.directory)), account=account)
    else:
        descriptor = _open_own(home, program.directory.name)
        try:
            yield _as_root(program.directory, descriptor)
        finally:
            os.close(descriptor)


def _is_privileged(port: int) -> bool:
    """Return whether only root may listen on *port*."""
    with suppress(OSError, ValueError):
        return port < int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_bytes())
    return port < FIRST_FREE_PORT


def _can_run(account: Account, words: tuple[str, ...]) -> bool:
    """Return whether *account* can use the interpreter; nothing of the home is run for that."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [*words, "-c", "import json"], stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_LIMIT,
            cwd="/", check=False, **popen_identity(account),
        )  # fmt: skip
        return done.returncode == 0
    return False


def _open_own(home: Home, name: str) -> int:
    """Return a descriptor of the snapshot *name*, which nobody but root can have made."""
    opened: list[int] = []
    try:
        opened.append(os.open(home.path, DIRECTORY & ~os.O_NOFOLLOW))
        for part in (home.runtime.name, name):
            opened.append(os.open(part, DIRECTORY, dir_fd=opened[-1]))
        status = os.fstat(opened[-1])
        if status.st_uid == 0 and not status.st_mode & OTHERS_WRITE:
            return opened.pop()
    except OSError as error:
        raise _damaged(home.runtime / name, error) from error
    finally:
        for descriptor in opened:
            os.close(descriptor)
    raise UnsafeProgramError(
        f"{home.runtime / name} is not root's own, so root does not run it",
        hint="Run the command as the owner of the home.",
    )


def _as_root(directory: Path, descriptor: int) -> Command:
    """Return the command that runs what root has opened as *descriptor*, whatever *directory* leads to by now."""
    try:
        program = _program(directory, _read_at(descriptor, MANIFEST))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(directory, error) from error
    words = (str(program.python), *OPTIONS)
    if not sys.platform.startswith("linux"):  # no way there to run a directory by its descriptor
        return Command(words=(*words, str(directory)))
    return Command(words=(*words, f"{DESCRIPTORS}{descriptor}"), descriptors=(descriptor,))


def _read_at(directory: int, name: str) -> bytes:
    with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory), "rb") as stream:
        return stream.read()


def _program(directory: Path, content: bytes) -> Program:
    manifest = json.loads(content)
    return Program(
        directory=directory,
        version=str(manifest["version"]),
        python=Path(manifest["python"]),
        manifest=manifest,
    )


def _damaged(directory: Path, error: Exception) -> ProgramMissingError:
    return ProgramMissingError(
        f"the gateway's program in {directory} cannot be used: {error}",
        hint="Run mosaic-gateway install, which makes it anew.",
    )
