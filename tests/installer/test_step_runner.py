"""The step runner: order, journal and undo, with fake steps that record their calls."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from mosaic_gateway.errors import InternalError, PreflightError
from mosaic_gateway_installer.step import Journal, Step, StepId
from mosaic_gateway_installer.step_runner import execute


class RecordingReporter:
    """A reporter that records its calls."""

    def __init__(self) -> None:
        self.summary: list[str] = []

    def begin(self, text: str) -> None:
        """Record the beginning of a step."""
        self.summary.append(f"begin {text}")

    def done(self, text: str) -> None:
        """Record the end of a step."""
        self.summary.append(f"done {text}")


@dataclass
class FakeStep(Step):
    """Appends its calls to *calls*; raises *failure* and *undo_failure*."""

    id: str  # type: ignore[misc,assignment]  # a test needs no ids of real steps
    calls: list[str]
    failure: BaseException | None = None
    undo_failure: Exception | None = None

    @property
    def description(self) -> str:
        """What the step does."""
        return f"Do {self.id}"

    def done(self) -> bool:
        """Fail: the step runner does not call this."""
        raise AssertionError

    def apply(self) -> None:
        """Record the call, then fail if requested."""
        self.calls.append(f"apply {self.id}")
        if self.failure is not None:
            raise self.failure

    def undo(self) -> None:
        """Record the call, then fail if requested."""
        self.calls.append(f"undo {self.id}")
        if self.undo_failure is not None:
            raise self.undo_failure


def test_a_step_is_pending_by_default_and_its_undo_does_nothing() -> None:
    """A step whose change cannot be seen runs in each run; one that changes nothing has nothing to undo."""

    class Minimal(Step):
        id = StepId.SMOKE_TEST
        description = "Test"

        def apply(self) -> None:
            """Do nothing."""

    step = Minimal()
    step.undo()
    assert (step.done(), tuple(step.notes)) == (False, ())


@dataclass
class NotingStep(FakeStep):
    """Says whether it was undone."""

    @property
    def failure_notes(self) -> tuple[str, ...]:
        """The number of calls so far."""
        return (f"{self.id}: {'undone' if f'undo {self.id}' in self.calls else 'in place'}",)


def test_the_error_has_the_notes_of_the_steps_that_were_started(journal: Journal) -> None:
    """They describe the state after the steps were undone; a step that was not reached says nothing."""
    calls: list[str] = []
    failure = PreflightError("no space")
    steps = [NotingStep("one", calls), NotingStep("two", calls, failure=failure), NotingStep("three", calls)]
    with pytest.raises(PreflightError) as raised:
        execute("install", steps, journal, RecordingReporter(), lambda: None)
    assert raised.value.full_message == "no space\none: undone\ntwo: undone"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return a journal in a temporary directory."""
    return Journal(tmp_path / "journal.jsonl")


def _run(journal: Journal, *steps: FakeStep, then: BaseException | None = None) -> None:
    def finish() -> None:
        if then is not None:
            raise then

    execute("install", steps, journal, RecordingReporter(), finish)


def _events(journal: Journal) -> list[str]:
    return [f"{entry['event']} {entry['step']}" for entry in journal.entries()]


def test_steps_run_in_order_and_are_journaled(journal: Journal) -> None:
    """Begin and end of each step are journaled; the caller closes the journal."""
    calls: list[str] = []
    _run(journal, FakeStep("one", calls), FakeStep("two", calls))
    assert calls == ["apply one", "apply two"]
    assert _events(journal) == ["begin one", "done one", "begin two", "done two"]
    assert {entry["verb"] for entry in journal.entries()} == {"install"}


def test_a_failing_step_undoes_itself_and_all_before_it(journal: Journal) -> None:
    """Steps are undone newest first, including the failed one; later steps do not run; the journal is empty."""
    calls: list[str] = []
    failure = PreflightError("no")
    with pytest.raises(PreflightError) as caught:
        _run(journal, FakeStep("one", calls), FakeStep("two", calls, failure), FakeStep("three", calls))
    assert caught.value is failure
    assert calls == ["apply one", "apply two", "undo two", "undo one"]
    assert journal.entries() == []


def test_a_failing_undo_does_not_hide_the_error(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """The first error is raised, the other steps are undone, and the journal is not deleted."""
    calls: list[str] = []
    steps = (
        FakeStep("one", calls),
        FakeStep("two", calls, undo_failure=OSError("stuck")),
        FakeStep("three", calls, InternalError("first"), InternalError("second")),
    )
    with caplog.at_level(logging.WARNING), pytest.raises(InternalError, match="first"):
        _run(journal, *steps)
    assert calls[-3:] == ["undo three", "undo two", "undo one"]
    assert [record.getMessage() for record in caplog.records] == [
        "could not undo three: second",
        "could not undo two: stuck",
    ]
    assert _events(journal)[-1] == "undone one"


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(1), MemoryError()])
def test_an_interruption_undoes_as_well(journal: Journal, interruption: BaseException) -> None:
    """An interrupted step is undone with all before it, and the exception is raised again."""
    calls: list[str] = []
    with pytest.raises(type(interruption)):
        _run(journal, FakeStep("one", calls), FakeStep("two", calls, interruption))
    assert calls == ["apply one", "apply two", "undo two", "undo one"]


def test_a_failure_after_the_steps_undoes_them(journal: Journal) -> None:
    """If the final function raises, for example for a failed smoke test, all steps are undone."""
    calls: list[str] = []
    with pytest.raises(InternalError):
        _run(journal, FakeStep("one", calls), then=InternalError("not well"))
    assert calls == ["apply one", "undo one"]


def test_a_journal_that_cannot_be_written_stops_the_step_before_it_runs(tmp_path: Path) -> None:
    """A step does not run if its begin cannot be journaled."""
    calls: list[str] = []
    with pytest.raises(FileNotFoundError):
        _run(Journal(tmp_path / "gone" / "journal"), FakeStep("one", calls))
    assert calls == ["undo one"]


def test_an_incomplete_or_invalid_line_of_the_journal_is_skipped(journal: Journal, tmp_path: Path) -> None:
    """A partly written line, or a line that is not a JSON object, is skipped; the others are read."""
    journal.append("install", "one", "begin")
    with (tmp_path / "journal.jsonl").open("ab") as stream:
        stream.write(b'5\n{"step": "two", "ev')
    assert _events(journal) == ["begin one"]
    journal.close()
    journal.close()
    assert journal.entries() == []
