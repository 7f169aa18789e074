"""The layout of a home: every path in the directory of an installation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mosaic_gateway.process.root_requests import Broker

__all__ = ["Home"]


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
