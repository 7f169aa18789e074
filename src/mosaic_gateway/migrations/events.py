"""What a run tells whoever watches, as it happens. Every event has a JSON form for scripts."""

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
    """The run knows what to do: ``migrations`` and ``statements`` are numbers of what is pending."""

    name: ClassVar[str] = "plan"

    migrations: int
    statements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementsSent(Event):
    """``statements`` statements are on their way to the server in one message, from ``number`` of ``tag`` on.

    Each is told when the message is done; usually that takes a fraction of a second.
    """

    name: ClassVar[str] = "sent"

    tag: str
    number: int
    total: int
    statements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementApplied(Event):
    """Statement ``number`` of ``total`` of migration ``tag`` is committed; it took ``seconds``."""

    name: ClassVar[str] = "statement"

    tag: str
    number: int
    total: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRetried(Event):
    """A statement could not get a lock within its limit, was rolled back, and is tried again."""

    name: ClassVar[str] = "retry"

    tag: str
    number: int
    attempt: int
    sqlstate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementRecovered(Event):
    """A statement outside of transactions, cut off in an earlier run, was looked up: see ``verdict``."""

    name: ClassVar[str] = "recovered"

    tag: str
    number: int
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationApplied(Event):
    """Migration ``tag`` is applied and in the ledger."""

    name: ClassVar[str] = "migration"

    tag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockBusy(Event):
    """Another run has the lock: its server process, program, last query, and how long it has been connected."""

    name: ClassVar[str] = "busy"

    pid: int
    application: str
    query: str
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LockWaited(Event):
    """Another run had the lock for ``seconds``."""

    name: ClassVar[str] = "lock"

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolerDetected(Event):
    """The connection goes through a transaction pooler: the lock is held by a transaction on a second connection."""

    name: ClassVar[str] = "pooler"

    reason: str
