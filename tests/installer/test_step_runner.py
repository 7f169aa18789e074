"""The executor: order, journal, undoing; with steps that only write down what is asked of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mosaic_gateway.errors import InternalError, PreflightError
from mosaic_gateway_installer.step_journal import Journal
from mosaic_gateway_installer.step_runner import execute


class Silent:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.summary: list[str] = []

    def begin(self, text: str) -> None:
        """Keep the beginning."""
        self.summary.append(f"begin {text}")

    def done(self, text: str) -> None:
        """Keep the end."""
        self.summary.append(f"done {text}")


@dataclass
class FakeStep:
    """Writes its calls into *calls*; fails as told."""

    id: str
    calls: list[str]
    failure: BaseException | None = None
    undo_failure: Exception | None = None
    description: str = field(init=False)

    def __post_init__(self) -> None:
        self.description = f"Do {self.id}"

    def done(self) -> bool:
        """Never asked by the executor."""
        raise AssertionError

    def apply(self) -> None:
        """Note the call, or fail."""
        self.calls.append(f"apply {self.id}")
        if self.failure is not None:
            raise self.failure

    def undo(self) -> None:
        """Note the call, or fail."""
        self.calls.append(f"undo {self.id}")
        if self.undo_failure is not None:
            raise self.undo_failure


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """Return a journal in a directory of its own."""
    return Journal(tmp_path / "journal.jsonl")


def _run(journal: Journal, *steps: FakeStep, then: BaseException | None = None) -> None:
    def finish() -> None:
        if then is not None:
            raise then

    execute("install", steps, journal, Silent(), finish)


def _events(journal: Journal) -> list[str]:
    return [f"{entry['event']} {entry['step']}" for entry in journal.entries()]


def test_steps_run_in_order_and_are_journaled(journal: Journal) -> None:
    """Each step is noted when it begins and when it is done; the journal stays for the caller to close."""
    calls: list[str] = []
    _run(journal, FakeStep("one", calls), FakeStep("two", calls))
    assert calls == ["apply one", "apply two"]
    assert _events(journal) == ["begin one", "done one", "begin two", "done two"]
    assert {entry["verb"] for entry in journal.entries()} == {"install"}


def test_a_failing_step_undoes_itself_and_all_before_it(journal: Journal) -> None:
    """Newest first, the failed one included, later ones never touched; the journal is empty then."""
    calls: list[str] = []
    failure = PreflightError("no")
    with pytest.raises(PreflightError) as caught:
        _run(journal, FakeStep("one", calls), FakeStep("two", calls, failure), FakeStep("three", calls))
    assert caught.value is failure
    assert calls == ["apply one", "apply two", "undo two", "undo one"]
    assert journal.entries() == []


def test_a_failing_undo_hides_nothing(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    """The first error is the one that is raised; the rest is still undone, and the journal keeps what is left."""
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
    """Ctrl-C within a step takes everything back and goes on to whoever waits for it."""
    calls: list[str] = []
    with pytest.raises(type(interruption)):
        _run(journal, FakeStep("one", calls), FakeStep("two", calls, interruption))
    assert calls == ["apply one", "apply two", "undo two", "undo one"]


def test_what_comes_after_the_steps_counts_as_one(journal: Journal) -> None:
    """A smoke test that fails takes all steps back."""
    calls: list[str] = []
    with pytest.raises(InternalError):
        _run(journal, FakeStep("one", calls), then=InternalError("not well"))
    assert calls == ["apply one", "undo one"]


def test_a_journal_that_cannot_be_written_stops_the_step_before_it_runs(tmp_path: Path) -> None:
    """What is not noted is not done."""
    calls: list[str] = []
    with pytest.raises(FileNotFoundError):
        _run(Journal(tmp_path / "gone" / "journal"), FakeStep("one", calls))
    assert calls == ["undo one"]


def test_a_torn_or_strange_line_of_the_journal_is_passed_over(journal: Journal, tmp_path: Path) -> None:
    """A crash within a line, or garbage, costs that line and no more."""
    journal.append("install", "one", "begin")
    with (tmp_path / "journal.jsonl").open("ab") as stream:
        stream.write(b'5\n{"step": "two", "ev')
    assert _events(journal) == ["begin one"]
    journal.close()
    journal.close()
    assert journal.entries() == []
