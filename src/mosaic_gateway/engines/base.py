"""The contract of all engines: protocol, report and errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mosaic_gateway.errors import BusyError, MosaicError, PreflightError, RefusedError
from mosaic_gateway.installation.engine_name import EngineName

__all__ = [
    "OLDEST_MAJOR",
    "ClusterMissingError",
    "CpuUnsupportedError",
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
    """The engine failed for a reason that has no class of its own."""

    code = "ENGINE_FAILED"


class EngineStartError(EngineError):
    """The database did not start; the message ends with the tail of the server's log."""

    code = "ENGINE_START"


class ServerUnreachableError(PreflightError):
    """No server answers at the address."""

    code = "SERVER_UNREACHABLE"


class ServerLoginError(PreflightError):
    """The server answers but rejects the login: wrong password, role or database name."""

    code = "SERVER_LOGIN"


class ServerTooOldError(PreflightError):
    """The server is older than `OLDEST_MAJOR`."""

    code = "SERVER_TOO_OLD"


class ServerReadOnlyError(PreflightError):
    """The server does not accept writes: it is a standby, or the database is set to read-only."""

    code = "SERVER_READ_ONLY"


class VectorMissingError(PreflightError):
    """The server does not offer the extension pgvector."""

    code = "VECTOR_MISSING"


class ExtensionRightsError(PreflightError):
    """pgvector is available, but the role may not create the extension."""

    code = "EXTENSION_RIGHTS"


class CpuUnsupportedError(PreflightError):
    """pgvector's machine code does not run on this CPU."""

    code = "CPU_UNSUPPORTED"


class RuntimeMissingError(PreflightError):
    """No usable PostgreSQL programs are installed."""

    code = "RUNTIME_MISSING"


class ClusterMissingError(PreflightError):
    """The home has no database cluster yet."""

    code = "CLUSTER_MISSING"


class UnfitAccountError(PreflightError):
    """PostgreSQL cannot run as this user: root, or a user without an entry in the user database."""

    code = "ACCOUNT_UNFIT"


class EngineBusyError(BusyError):
    """Another process runs the engine of this home; the message names its pid."""

    code = "ENGINE_BUSY"


class ForeignClusterError(RefusedError):
    """The files at the cluster's path are not a cluster that this engine may use."""

    code = "FOREIGN_CLUSTER"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """The result of `Engine.verify`.

    ``server_version`` is like ``18.6``. ``vector_version`` is the installed version of pgvector if
    ``vector_installed``, else the version that would be installed. ``recovered`` describes what the start
    had to clean up, None after an ordinary start.
    """

    engine: EngineName
    server_version: str
    vector_version: str
    vector_installed: bool
    recovered: str | None = None


class Engine(Protocol):
    """Runs the database of one home and provides a conninfo for it."""

    @property
    def name(self) -> EngineName:
        """The name of the engine."""

    def start(self) -> None:
        """Start the database within a deadline; does nothing if it is running.

        Ends processes and removes stale files left by a crash. Raises EngineError, PreflightError, BusyError.
        """

    def verify(self) -> EngineReport:
        """Check version, pgvector and privileges; leaves the database unchanged.

        Raises PreflightError.
        """

    def conninfo(self) -> str:
        """Return the libpq conninfo for sessions and pools; it may contain a password and must not be logged."""

    def alive(self) -> bool:
        """Return whether the database is running; cheap, raises nothing."""

    def stop(self) -> None:
        """Stop what `start` started, within 20 s, and release its lock; does nothing if it is not running."""
