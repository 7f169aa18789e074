"""A check of a machine or an installation, and its result; shared by preflight and doctor."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mosaic_gateway import fs
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.hint import Text
from mosaic_gateway_installer.step import Target

__all__ = [
    "AdviceError",
    "Check",
    "CheckResult",
    "Level",
    "NotCheckedError",
    "examine",
    "finding_lines",
    "repair",
    "require_home",
    "warnings_of",
]

#: Level → the value of ``ok`` in the JSON form.
OK = {"ok": True, "warning": True, "fault": False, "unchecked": None}
MARKS = {"ok": "ok     ", "warning": "warning", "fault": "FAULT  ", "unchecked": "-      "}


class Level(StrEnum):
    """The severity of a result. Only a fault makes a command fail."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    UNCHECKED = "unchecked"


def require_home(target: Target) -> None:
    """Raise NotCheckedError if the home cannot be used."""
    if target.home_fault is not None:
        raise NotCheckedError("not checked: the home cannot be used")


class AdviceError(MosaicError):
    """Raised by a check for a warning, which does not make the command fail. Subclasses set the code."""


class NotCheckedError(Exception):
    """Raised by a check that does not apply, or whose prerequisite is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check. A warning or fault has a ``code`` and a ``hint``.

    ``repaired`` says what a fix changed, ``not_repaired`` why a fix failed; ``error`` is what the check raised.
    """

    check: str
    level: Level
    message: Text
    code: str = ""
    hint: Text = ""
    details: dict[str, Any] = field(default_factory=dict)
    repaired: str = ""
    not_repaired: str = ""
    error: MosaicError | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        form: dict[str, Any] = {"check": self.check, "ok": OK[self.level], "level": str(self.level)}
        form |= {"message": self.message, "code": self.code, "hint": self.hint}
        optional = {"details": self.details, "repaired": self.repaired, "not_repaired": self.not_repaired}
        return form | {name: value for name, value in optional.items() if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a target.

    ``run`` returns a sentence if all is well. It raises MosaicError for a fault, `AdviceError` for a warning, and
    `NotCheckedError`. ``fix`` repairs what ``run`` raised, if that is safe, and returns what it changed; otherwise
    it raises MosaicError, or `NotCheckedError` if a prerequisite has disappeared in the meantime. ``needs_programs`` is
    True if the check does not apply after an uninstall that retained the data.
    """

    id: str
    run: Callable[[Target], Text]
    fix: Callable[[Target, MosaicError], str] | None = None
    needs_programs: bool = False


def examine(check: Check, target: Target) -> CheckResult:
    """Run *check* on *target* and return its result. Only unexpected errors are raised."""
    try:
        return CheckResult(check=check.id, level=Level.OK, message=check.run(target))
    except NotCheckedError as reason:
        return CheckResult(check=check.id, level=Level.UNCHECKED, message=str(reason))
    except MosaicError as error:
        return _of_error(check.id, error)
    except OSError as error:
        denied = fs.is_denied(error)
        fault = fs.not_permitted(error) if denied else UnreadableError(str(error))
        return _of_error(check.id, fault)


def repair(check: Check, target: Target, finding: CheckResult) -> CheckResult:
    """Run the fix of *check*, if it has one, and return the result of running the check again.

    If the fix fails, *finding* is returned with the reason.
    """
    if check.fix is None or finding.error is None:
        return finding
    try:
        action = check.fix(target, finding.error)
    except (MosaicError, OSError, NotCheckedError) as error:
        if error is finding.error:
            return finding
        return replace(finding, not_repaired=str(error))
    return replace(examine(check, target), repaired=action)


class UnreadableError(MosaicError):
    """A file or directory could not be read."""

    code = "UNREADABLE"


def _of_error(check: str, error: MosaicError) -> CheckResult:
    level = Level.WARNING if isinstance(error, AdviceError) else Level.FAULT
    plain = CheckResult(check=check, level=level, message=error.message, code=error.code, hint=error.hint)
    return replace(plain, details=error.details, error=error)


def warnings_of(findings: Iterable[CheckResult]) -> tuple[Text, ...]:
    """Return message and hint of each warning among *findings*."""
    return tuple(finding.message + ". " + finding.hint for finding in findings if finding.level is Level.WARNING)


def finding_lines(findings: Iterable[CheckResult]) -> tuple[Text, ...]:
    """Return *findings* as lines of text."""
    lines: list[Text] = []
    for finding in findings:
        code = f" [{finding.code}]" if finding.code else ""
        lines.append(f"{MARKS[finding.level]} {finding.check:<16}{code} " + finding.message)
        repaired = f"repaired: {finding.repaired}" if finding.repaired else ""
        failed = f"not repaired: {finding.not_repaired}" if finding.not_repaired else ""
        lines += [f"{'':<24} " + text for text in (repaired, failed, finding.hint) if text]
    return tuple(lines)
