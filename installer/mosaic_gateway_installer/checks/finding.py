"""What a look at the machine or an installation found; the one form of preflight and doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, TypeVar

from mosaic_gateway.errors import MosaicError

__all__ = ["AdviceError", "Check", "CheckResult", "Level", "NotCheckedError", "examine", "finding_lines", "repair"]

S = TypeVar("S")
#: What a finding says in the ``ok`` of its JSON form, which is older than ``level``.
OK = {"ok": True, "warning": True, "fault": False, "unchecked": None}
MARKS = {"ok": "ok     ", "warning": "warning", "fault": "FAULT  ", "unchecked": "-      "}


class Level(StrEnum):
    """How much a finding matters. A warning refuses nothing."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    UNCHECKED = "unchecked"


class AdviceError(MosaicError):
    """Raised by a check for what is not in the way and yet worth knowing: a warning. Subclasses name the code."""


class NotCheckedError(Exception):
    """Raised by a check that needs something which is not there now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The answer of one check: for a warning or fault with ``code`` and ``hint``.

    ``repaired`` says what a fix did, ``not_repaired`` why it did not; ``error`` is what the check raised.
    """

    check: str
    level: Level
    message: str
    code: str = ""
    hint: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    repaired: str = ""
    not_repaired: str = ""
    error: MosaicError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        form: dict[str, Any] = {"check": self.check, "ok": OK[self.level], "level": str(self.level)}
        form |= {"message": self.message, "code": self.code, "hint": self.hint}
        optional = {"details": self.details, "mended": self.repaired, "not_mended": self.not_repaired}
        return form | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[S]):
    """One question to a subject *S*.

    ``run`` returns what is well in a sentence and raises MosaicError for a fault, `AdviceError` for a warning,
    `NotCheckedError`. ``fix`` mends what ``run`` raised, if that is safe, and says what it did; otherwise it
    raises MosaicError, or `NotCheckedError` where what it needs has gone meanwhile.
    """

    id: str
    run: Callable[[S], str]
    fix: Callable[[S, MosaicError], str] | None = None


def examine(check: Check[S], subject: S) -> CheckResult:
    """Return what *check* finds on *subject*; only faults of ours are raised."""
    try:
        return CheckResult(check=check.id, level=Level.OK, message=check.run(subject))
    except NotCheckedError as unknown:
        return CheckResult(check=check.id, level=Level.UNCHECKED, message=str(unknown))
    except MosaicError as error:
        return _of_error(check.id, error)
    except OSError as error:
        return _of_error(check.id, UnreadableError(str(error), hint="Run the command as the owner or as root."))


def repair(check: Check[S], subject: S, finding: CheckResult) -> CheckResult:
    """Let *check* mend what it found, if it can, and return what it finds now.

    A finding that cannot be mended comes back with the reason.
    """
    if check.fix is None or finding.error is None:
        return finding
    try:
        done = check.fix(subject, finding.error)
    except (MosaicError, OSError, NotCheckedError) as error:
        if error is finding.error:
            return finding
        return replace(finding, not_repaired=str(error))
    return replace(examine(check, subject), repaired=done)


class UnreadableError(MosaicError):
    """Something could not be read."""

    code = "UNREADABLE"


def _of_error(check: str, error: MosaicError) -> CheckResult:
    level = Level.WARNING if isinstance(error, AdviceError) else Level.FAULT
    plain = CheckResult(check=check, level=level, message=error.message, code=error.code, hint=error.hint)
    return replace(plain, details=error.details, error=error)


def finding_lines(findings: Iterable[CheckResult]) -> tuple[str, ...]:
    """Return *findings* as lines for people."""
    lines = []
    for finding in findings:
        code = f" [{finding.code}]" if finding.code else ""
        lines.append(f"{MARKS[finding.level]} {finding.check:<16}{code} {finding.message}")
        summary = f"mended: {finding.repaired}" if finding.repaired else ""
        failed = f"not mended: {finding.not_repaired}" if finding.not_repaired else ""
        lines += [f"{'':<24} {text}" for text in (summary, failed, finding.hint) if text]
    return tuple(lines)
