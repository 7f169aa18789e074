"""Runs steps: journaled, in order, and all taken back when one of them fails.

A step that fails, or is interrupted, is undone with all steps that this run made before it, newest
first. A run that was killed is not undone: the next run of the same verb finds the journal, and goes on.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

from mosaic_gateway.cli.reporter import Reporter
from mosaic_gateway.errors import MosaicError
from mosaic_gateway.process.interruptions import INTERRUPTIONS
from mosaic_gateway_installer.step import Step
from mosaic_gateway_installer.step_journal import Journal

__all__ = ["execute", "interruptible", "uninterruptible"]

LOG = logging.getLogger(__name__)


def execute(verb: str, steps: Sequence[Step], journal: Journal, report: Reporter, then: Callable[[], None]) -> None:
    """Apply *steps* in their order, then call *then*, whose failure also takes everything back.

    Once all has been taken back the *journal* is empty. Raises what a step or *then* raises, after the undoing.
    """
    begun: list[Step] = []
    try:
        for step in steps:
            report.begin(step.description)
            begun.append(step)
            _note(journal, verb, step, "begin")
            step.apply()
            _note(journal, verb, step, "done")
            report.done(step.description)
        then()
    except BaseException:
        with uninterruptible():
            if _undo(verb, begun, journal, report):
                with suppress(OSError):
                    journal.close()
        raise


def _undo(verb: str, begun: Sequence[Step], journal: Journal, report: Reporter) -> bool:
    """Undo *begun*, newest first; return whether nothing of it is left."""
    failed: list[str] = []
    for step in reversed(begun):
        report.done(f"Undoing: {step.description}")
        try:
            step.undo()
        except (OSError, MosaicError) as error:
            # The first error is the one to show; what could not be undone is what the next run takes up.
            LOG.warning("could not undo %s: %s", step.id, error)
            failed.append(step.id)
            continue
        with suppress(OSError, MosaicError):  # on a full disk the undoing goes on, unwritten
            _note(journal, verb, step, "undone")
    return not failed


def _note(journal: Journal, verb: str, step: Step, event: str) -> None:
    journal.append(verb, step.id, event)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt like Ctrl-C."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    yield from _with_handlers((signal.SIGTERM, signal.SIGHUP), interrupt)


@contextmanager
def uninterruptible() -> Iterator[None]:
    """Keep a second Ctrl-C from tearing the undoing apart."""

    def ignore(_number: int, _frame: FrameType | None) -> None:
        return

    # Not SIG_IGN, which the programs that the undoing starts would inherit.
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
