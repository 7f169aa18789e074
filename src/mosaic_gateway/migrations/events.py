"""Events that a run emits as it proceeds. Every event has a JSON form for scripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

__all__ = [
    "Event",
    "LockBusy",
    "LockWaited",
    "MigrationApplied",
    "PlanComputed",
    "PoolerDetected",
    "StatementApplied",
    "StatementRecovered",
    "StatementRetried",
    "StatementsSent",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run over ``bundle``."""

    name: ClassVar[str] = "event"

    bundle: str

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: ``event`` and the fields."""
        return {"event": self.name, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanComputed(Event):
    """The plan is computed: ``migrations`` and ``statements`` are the numbers of pending ones."""

    name: ClassVar[str] = "plan"

    migrations: int
    statements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementsSent(Event):
    """``statements`` statements, beginning with ``number`` of ``tag``, were sent to the server in one message.

    Each is reported as applied when the message is done, usually within a fraction of a second.
    """

    name: ClassVar[str] = "sent"

    tag: str
    number: int
    total: int
    statements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementApplied(Event):
    """Statement ``number`` of ``total`` of migration ``tag`` is committed; it took ``seconds``.

    The last one of statements that share a transaction has the time of all of them, the others have 0.
    """

    name: ClassVar[str] = "statement"

    tag: str
    number: int
    total: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRetried(Event):
    """A statement could not get a lock within its time limit, was rolled back, and is retried."""

    name: ClassVar[str] = "retry"

    tag: str
    number: int
    attempt: int
    sqlstate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRecovered(Event):
    """The outcome of a nontransactional statement that an earlier run was interrupted in: see ``verdict``."""

    name: ClassVar[str] = "recovered"

    tag: str
    number: int
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationApplied(Event):
    """Migration ``tag`` is applied and recorded in the ledger."""

    name: ClassVar[str] = "migration"

    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockBusy(Event):
    """Another run holds the lock: its backend, application name, last query, and seconds since it connected."""

    name: ClassVar[str] = "busy"

    pid: int
    application: str
    query: str
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LockWaited(Event):
    """The run waited ``seconds`` for the lock of another run."""

    name: ClassVar[str] = "lock"

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerDetected(Event):
    """The connection goes through a transaction pooler: the lock is held by a transaction on a second connection."""

    name: ClassVar[str] = "pooler"

    reason: str
