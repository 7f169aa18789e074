"""The queue of password hashes: turns of sources, bounds, and callers that leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from mosaic_gateway.auth.errors import TooBusyError
from mosaic_gateway.auth.passwords import WAITING, WAITING_OF_SOURCE, Hasher


@dataclass(slots=True)
class Work:
    """Jobs that wait until *opened*, in the order in which they began."""

    opened: threading.Event = field(default_factory=threading.Event)
    began: list[str] = field(default_factory=list)

    def job(self, name: str) -> str:
        """Note the beginning of *name*, wait, and return it."""
        self.began.append(name)
        assert self.opened.wait(10)
        return name


def run(scenario: Callable[[Hasher, Work], Awaitable[None]], *, at_once: int = 1) -> Work:
    """Run *scenario* with a new hasher."""
    work = Work()

    async def main() -> None:
        hasher = Hasher(at_once)
        try:
            await scenario(hasher, work)
        finally:
            work.opened.set()
            hasher.close()

    asyncio.run(main())
    return work


def submit(hasher: Hasher, work: Work, *names: str) -> list[asyncio.Task[str]]:
    """Start a hash for each of *names*, whose first letter is its source."""
    return [asyncio.ensure_future(hasher.run(name[0], work.job, name)) for name in names]


def test_sources_take_turns() -> None:
    """A source with several requests does not delay another's by more than one."""

    async def scenario(hasher: Hasher, work: Work) -> None:
        jobs = submit(hasher, work, "a1", "a2", "a3", "b1", "c1", "b2")
        await asyncio.sleep(0)
        work.opened.set()
        await asyncio.gather(*jobs)

    assert run(scenario).began == ["a1", "a2", "b1", "c1", "a3", "b2"]


def test_a_source_has_one_hash_at_a_time() -> None:
    """A thread stays free for another source."""

    async def scenario(hasher: Hasher, work: Work) -> None:
        jobs = submit(hasher, work, "a1", "a2", "b1")
        while len(work.began) < 2:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.001)
        work.opened.set()
        await asyncio.gather(*jobs)

    assert sorted(run(scenario, at_once=2).began[:2]) == ["a1", "b1"]


def test_queues_are_bounded() -> None:
    """Too many requests of a source, or in all, are refused at once; a place that is left can be taken."""

    async def scenario(hasher: Hasher, work: Work) -> None:
        first = submit(hasher, work, "a", *["a"] * WAITING_OF_SOURCE)
        await asyncio.sleep(0)
        with pytest.raises(TooBusyError):
            await hasher.run("a", work.job, "a")
        others = submit(hasher, work, *(chr(1000 + number) for number in range(WAITING - WAITING_OF_SOURCE)))
        await asyncio.sleep(0)
        with pytest.raises(TooBusyError):
            await hasher.run("z", work.job, "z")
        others.pop().cancel()
        await asyncio.sleep(0)
        [last] = submit(hasher, work, "z")
        await asyncio.sleep(0)
        work.opened.set()
        await asyncio.gather(*first, *others, last)

    assert len(run(scenario).began) == 1 + WAITING


def test_cancelled_callers() -> None:
    """One that waits is not hashed; one whose hash runs, or whose turn has just come, frees its place."""

    async def scenario(hasher: Hasher, work: Work) -> None:
        running, waiting, next_one, last = submit(hasher, work, "a1", "a2", "b1", "c1")
        while not work.began:  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.001)
        running.cancel()
        waiting.cancel()
        await asyncio.sleep(0)
        assert work.began == ["a1"]
        work.opened.set()
        assert await last == "c1"
        assert await next_one == "b1"
        [other] = submit(hasher, work, "d1")
        other.cancel()
        assert await asyncio.gather(*submit(hasher, work, "e1", "e2")) == ["e1", "e2"]

    assert run(scenario).began == ["a1", "b1", "c1", "e1", "e2"]


def test_a_caller_that_is_cancelled_when_its_turn_has_come() -> None:
    """The turn goes on to the next."""

    class Cancelling(Hasher):
        """Cancels the *victim* between its turn and its next step."""

        victim: asyncio.Task[str] | None = None

        def _release(self, source: str) -> None:
            super()._release(source)
            if self.victim is not None:
                self.victim.cancel()

    async def main() -> list[str]:
        hasher, work = Cancelling(1), Work()
        work.opened.set()
        first, hasher.victim, last = submit(hasher, work, "a1", "b1", "c1")
        async with asyncio.timeout(10):
            await asyncio.gather(first, last)
        hasher.close()
        return work.began

    assert asyncio.run(main()) == ["a1", "c1"]
