"""Runs steps in order, records them in the journal, and undoes all of them if one fails.

If a step fails or is interrupted, it and the steps that this run applied before it are undone, newest first. A run
that was killed is not undone: the next run of the same verb reads the journal and continues.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

from mosaic_gateway.cli import Reporter
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.process import INTERRUPTIONS
from mosaic_gateway_installer.step import Journal, Step

__all__ = ["QuietReporter", "execute", "interruptible", "uninterruptible"]

LOG = logging.getLogger(__name__)
T = TypeVar("T")


class QuietReporter:
    """Reporter that prints nothing: the step runner reports the step."""

    def begin(self, text: str) -> None:
        """Do nothing."""

    def done(self, text: str) -> None:
        """Do nothing."""


def execute(verb: str, steps: Sequence[Step], journal: Journal, report: Reporter, then: Callable[[], T]) -> T:
    """Apply *steps* in order, then call *then* and return its result. If one raises, undo all steps and raise it again.

    If everything could be undone, the *journal* is deleted. The steps' failure notes are added to a MosaicError.
    """
    started: list[Step] = []
    try:
        for step in steps:
            report.begin(step.description)
            started.append(step)
            _record(journal, verb, step, "begin")
            step.apply()
            _record(journal, verb, step, "done")
            report.done(step.description)
        return then()
    except BaseException as error:
        with uninterruptible():
            if _undo(verb, started, journal, report):
                with suppress(OSError):
                    journal.close()
        if isinstance(error, MosaicError):
            for note in (note for step in started for note in step.failure_notes):
                error.add_note(note)
        raise


def _undo(verb: str, started: Sequence[Step], journal: Journal, report: Reporter) -> bool:
    """Undo the steps *started*, newest first; return whether all of them could be undone."""
    failed: list[str] = []
    for step in reversed(started):
        if type(step).undo is not Step.undo:
            report.done(f"Undoing: {step.description}")
        try:
            step.undo()
        except (OSError, MosaicError) as error:
            # The caller raises the first error. The next run continues with what could not be undone.
            LOG.warning("could not undo %s: %s", step.id, error)
            failed.append(step.id)
            continue
        with suppress(OSError, MosaicError):  # on a full disk, continue to undo without the journal
            _record(journal, verb, step, "undone")
    return not failed


def _record(journal: Journal, verb: str, step: Step, event: str) -> None:
    journal.append(verb, step.id, event)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM and SIGHUP, as on SIGINT."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    yield from _with_handlers((signal.SIGTERM, signal.SIGHUP), interrupt)


@contextmanager
def uninterruptible() -> Iterator[None]:
    """Ignore SIGINT, SIGTERM and SIGHUP while steps are undone."""

    def ignore(_number: int, _frame: FrameType | None) -> None:
        return

    # Not SIG_IGN, which programs started by `undo` would inherit.
    yield from _with_handlers(INTERRUPTIONS, ignore)


def _with_handlers(
    numbers: tuple[signal.Signals, ...], handler: Callable[[int, FrameType | None], None]
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
