"""The home of an installation: one directory, and every path in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mosaic_gateway.process.root_requests import Broker

__all__ = ["Home"]


@dataclass(frozen=True, slots=True)
class Home:
    """The one directory that an installation owns, and the places in it.

    ``programs`` is the directory of programs that root made for it elsewhere, None where they lie in the home.
    ``broker`` is who does what only root can do, None for an ordinary user's own work.
    """

    path: Path
    programs: Path | None = field(default=None, compare=False)
    broker: Broker | None = field(default=None, compare=False, repr=False)

    @property
    def receipt(self) -> Path:
        """What the installation owns, here and elsewhere (JSON)."""
        return self.path / "receipt.json"

    @property
    def journal(self) -> Path:
        """Installer steps under way (JSON lines)."""
        return self.path / "journal.jsonl"

    @property
    def config_file(self) -> Path:
        """Settings (TOML, 0600)."""
        return self.path / "config.toml"

    @property
    def lock(self) -> Path:
        """Held by the verb that changes the installation."""
        return self.path / ".lock"

    @property
    def secrets(self) -> Path:
        """One file for each secret (0600)."""
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
        """Copies of the programs that run, one directory for each version."""
        return self.programs or self.path / "runtime"

    @property
    def run(self) -> Path:
        """Sockets, pid files, locks of running processes."""
        return self.path / "run"

    @property
    def gateway_lock(self) -> Path:
        """Held by the gateway that serves this home."""
        return self.run / "gateway.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor that keeps the gateway running in the background."""
        return self.run / "supervisor.lock"

    @property
    def logs(self) -> Path:
        """Rotated log files."""
        return self.path / "logs"

    @property
    def gateway_log(self) -> Path:
        """What the gateway in the background writes."""
        return self.logs / "gateway.log"

    @property
    def postgres_log(self) -> Path:
        """What the embedded PostgreSQL writes."""
        return self.logs / "postgres.log"

    @property
    def pglite_log(self) -> Path:
        """What PGlite writes."""
        return self.logs / "pglite.log"
