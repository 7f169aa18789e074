"""The layout of a home: every path in the directory of an installation, and the check of file types.

A verb that writes or removes below a symbolic link would change files outside the home. Therefore a verb that changes
a home, or starts a process in it, first checks that directories are directories and lock files are regular files. The
path of the home itself may contain links.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mosaic_gateway.errors import RefusedError
from mosaic_gateway.fs.permissions import access_denied, user_name
from mosaic_gateway.fs.staging import open_directory_to_owner
from mosaic_gateway.hint import PROGRAM, command
from mosaic_gateway.process.account import check_owner
from mosaic_gateway.process.root_requests import Broker

__all__ = ["Home", "HomeLayoutError", "check_layout", "check_run_directory", "open_to_owner"]


@dataclass(frozen=True, slots=True)
class Home:
    """The directory that an installation owns, and the paths in it.

    ``programs`` is the directory of program copies if root created one outside the home, else None. ``broker`` performs
    operations that need root; it is None where an ordinary user runs the command.
    """

    path: Path
    programs: Path | None = field(default=None, compare=False)
    broker: Broker | None = field(default=None, compare=False, repr=False)

    @property
    def receipt(self) -> Path:
        """The receipt: what the installation owns in the home and elsewhere (JSON)."""
        return self.path / "receipt.json"

    @property
    def journal(self) -> Path:
        """The journal of installer steps (JSON lines)."""
        return self.path / "journal.jsonl"

    @property
    def config_file(self) -> Path:
        """Settings (TOML, 0600)."""
        return self.path / "config.toml"

    @property
    def lock(self) -> Path:
        """Lock file of the verb that changes the installation."""
        return self.path / ".lock"

    @property
    def secrets(self) -> Path:
        """Directory with one file for each secret (0600)."""
        return self.path / "secrets"

    @property
    def auth_secret(self) -> Path:
        """The key that signs session cookies."""
        return self.secrets / "auth-secret"

    @property
    def data(self) -> Path:
        """Database clusters, one directory for each engine and major version."""
        return self.path / "data"

    @property
    def runtime(self) -> Path:
        """Program copies, one directory for each version."""
        return self.programs or self.path / "runtime"

    @property
    def launcher(self) -> Path:
        """The command that runs the program copy in use."""
        return (self.programs or self.path) / "bin" / PROGRAM

    @property
    def run(self) -> Path:
        """Sockets, pid files and lock files of running processes."""
        return self.path / "run"

    @property
    def gateway_lock(self) -> Path:
        """Lock file of the gateway that serves this home."""
        return self.run / "gateway.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Lock file of the supervisor that runs the gateway in the background."""
        return self.run / "supervisor.lock"

    @property
    def logs(self) -> Path:
        """Directory of log files, which are rotated."""
        return self.path / "logs"

    @property
    def gateway_log(self) -> Path:
        """Log of the gateway in the background."""
        return self.logs / "gateway.log"

    @property
    def postgres_log(self) -> Path:
        """Log of the embedded PostgreSQL."""
        return self.logs / "postgres.log"

    @property
    def pglite_log(self) -> Path:
        """Log of PGlite."""
        return self.logs / "pglite.log"


class HomeLayoutError(RefusedError):
    """A directory or lock file of the home is of another file type, or its owner has no permission to use it."""

    code = "HOME_LAYOUT"


def check_layout(home: Home, *, removing: bool = False) -> None:
    """Raise `HomeLayoutError` if a directory or lock file of *home* is of another file type or closed to this user.

    *removing*: a removal goes on past directories of another user, except for those that say what runs. Raises OSError.
    """
    for path in _directories(home):
        passed = removing and path != home.data
        _check(path, stat.S_ISDIR, stat.S_IRWXU, "directory", foreign_passes=passed)
    _check_file(home.lock)
    check_run_directory(home)


def open_to_owner(home: Home) -> None:
    """Give this user full permission for its own directories of *home*, for a removal.

    Raises `HomeOwnerError`, OSError.
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        check_owner(home.path)
    for path in (home.path, *_directories(home), home.run):
        with suppress(FileNotFoundError, NotADirectoryError):
            open_directory_to_owner(path)


def _directories(home: Home) -> tuple[Path, ...]:
    return home.data, home.logs, home.secrets, *(home.path / name for name in ("backups", "bin", "runtime"))


def check_run_directory(home: Home) -> None:
    """Do as `check_layout` for the directory that says what runs. Raises `HomeLayoutError`, OSError."""
    _check(home.run, stat.S_ISDIR, stat.S_IRWXU, "directory")
    for path in home.run.glob("*.lock"):
        _check_file(path)


def _check_file(path: Path) -> None:
    _check(path, stat.S_ISREG, stat.S_IRUSR | stat.S_IWUSR, "regular file")


def _check(path: Path, fits: Callable[[int], bool], needed: int, kind: str, *, foreign_passes: bool = False) -> None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not fits(status.st_mode):
        actual = "is a symbolic link" if stat.S_ISLNK(status.st_mode) else "is of another type"
        raise HomeLayoutError(
            f"{path} must be a {kind}, but {actual}",
            hint="Nothing was changed. Replace a link by its target directory, or by a bind mount (mount --bind)."
            if kind == "directory"
            else "Nothing was changed. Remove it; it is created again.",
            details={"path": str(path)},
        )
    usable = os.R_OK | os.W_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0)
    if status.st_uid != os.geteuid() and not foreign_passes and not os.access(path, usable):
        denied = access_denied(path, f"{path} is not accessible to {user_name(os.geteuid())}")
        raise HomeLayoutError(denied.message, hint=denied.hint, details=denied.details)
    if status.st_uid == os.geteuid() != 0 and status.st_mode & needed != needed:
        raise HomeLayoutError(
            f"{path} is not accessible to its owner (mode {stat.S_IMODE(status.st_mode):04o})",
            hint="Set the modes: " + command("doctor", "--fix"),
            details={"path": str(path)},
        )
