"""The contract that every engine keeps, what it reports, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mosaic_gateway.errors import BusyError, MosaicError, PreflightError, RefusedError
from mosaic_gateway.installation.engine_name import EngineName

__all__ = [
    "OLDEST_MAJOR",
    "ClusterMissingError",
    "CpuUnsupportedError",
    "DiskFullError",
    "Engine",
    "EngineBusyError",
    "EngineError",
    "EngineReport",
    "EngineStartError",
    "ExtensionRightsError",
    "ForeignClusterError",
    "RuntimeMissingError",
    "ServerLoginError",
    "ServerReadOnlyError",
    "ServerTooOldError",
    "ServerUnreachableError",
    "UnfitAccountError",
    "VectorMissingError",
]


#: The oldest major version of PostgreSQL that a gateway runs on.
OLDEST_MAJOR = 15


class EngineError(MosaicError):
    """The engine failed in a way that no finer class names."""

    code = "ENGINE_FAILED"


class EngineStartError(EngineError):
    """The database did not come up; the message ends with the tail of the server's log."""

    code = "ENGINE_START"


class ServerUnreachableError(PreflightError):
    """Nobody answers at the server's address."""

    code = "SERVER_UNREACHABLE"


class ServerLoginError(PreflightError):
    """The server answers, but does not let us into the database: password, role or database name."""

    code = "SERVER_LOGIN"


class ServerTooOldError(PreflightError):
    """The server is older than `OLDEST_MAJOR`."""

    code = "SERVER_TOO_OLD"


class ServerReadOnlyError(PreflightError):
    """The server takes no writes: a standby, or a database set to read only."""

    code = "SERVER_READ_ONLY"


class VectorMissingError(PreflightError):
    """The server has no pgvector that could be created."""

    code = "VECTOR_MISSING"


class ExtensionRightsError(PreflightError):
    """pgvector is there, but this role may not create it."""

    code = "EXTENSION_RIGHTS"


class CpuUnsupportedError(PreflightError):
    """pgvector's machine code does not run on this CPU."""

    code = "CPU_UNSUPPORTED"


class RuntimeMissingError(PreflightError):
    """There are no usable PostgreSQL programs."""

    code = "RUNTIME_MISSING"


class ClusterMissingError(PreflightError):
    """The home has no database cluster yet."""

    code = "CLUSTER_MISSING"


class DiskFullError(PreflightError):
    """There is no room for what must be written; what was begun has been removed."""

    code = "DISK_FULL"


class UnfitAccountError(PreflightError):
    """PostgreSQL does not run as this user: root, or a user without an entry in the user database."""

    code = "ACCOUNT_UNFIT"


class EngineBusyError(BusyError):
    """Another process runs the engine of this home; the message names its pid."""

    code = "ENGINE_BUSY"


class ForeignClusterError(RefusedError):
    """What lies where the cluster belongs is not a cluster that this engine may use."""

    code = "FOREIGN_CLUSTER"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What `Engine.verify` found.

    ``server_version`` is like ``18.6``. ``vector_version`` is the installed version of pgvector where
    ``vector_installed``, else the one that would be installed. ``recovered`` says in a sentence what the
    start had to clear away, None after an ordinary start.
    """

    engine: EngineName
    server_version: str
    vector_version: str
    vector_installed: bool
    recovered: str | None = None


class Engine(Protocol):
    """What runs the database of one home, from nothing running to a conninfo that works."""

    @property
    def name(self) -> EngineName:
        """Which engine this is."""

    def start(self) -> None:
        """Bring the database up within a deadline; does nothing while it is up.

        Adopts or clears what a dead process left. Raises EngineError, PreflightError, BusyError.
        """

    def verify(self) -> EngineReport:
        """Check version, pgvector and rights; leaves nothing behind in the database.

        Raises PreflightError.
        """

    def conninfo(self) -> str:
        """Return the libpq conninfo for sessions and pools; it may hold a password: never log it."""

    def alive(self) -> bool:
        """Return whether the database still stands: cheap, and without an exception."""

    def stop(self) -> None:
        """Stop what `start` started, within 20 s, and release its lock; harmless when nothing runs."""
