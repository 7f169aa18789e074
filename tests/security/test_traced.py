"""Root's processes under strace: once the owner is known, no system call of theirs names a path in the home."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress

import psutil
import pytest
from tests.security.alternating import GetBase
from tests.security.installation import Watch
from tests.security.interpreters import KINDS
from tests.security.machine import Machine
from tests.security.traced import STRACE, violations
from tests.security.verbs import VERBS, Verb

LIMIT = 120.0  # seconds; strace slows every call down
TRACE = "/var/cache/trace"
#: Output goes to files: the tracer runs as long as the gateway, and must not have the test's pipes open.
IN_FILES = '"$@" > /var/cache/out 2> /var/cache/err; code=$?; cat /var/cache/out; cat /var/cache/err >&2; exit $code'


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each verb with one kind of interpreter, or with both if ``--whole`` is given."""
    if "verb" not in metafunc.fixturenames:
        return
    whole = bool(metafunc.config.getoption("--whole", default=False))
    cases = [
        pytest.param(verb, kind, id=f"{verb.text}-{kind}")
        for index, verb in enumerate(VERBS)
        for kind in (KINDS if whole else [KINDS[index % len(KINDS)]])
    ]
    metafunc.parametrize(("verb", "interpreter"), cases)


def test_root_names_no_path_of_the_home(get_base: GetBase, verb: Verb, interpreter: str) -> None:
    """Until a process has dropped root for good, it accesses nothing in the home."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    with get_base(interpreter).copied() as attacked:
        words = verb.words(attacked)
        if verb.running:
            attacked.started()
        watch = Watch(attacked)
        ended = verb.run(
            attacked, words, ("sh", "-c", IN_FILES, "sh", *STRACE, "-o", TRACE), limit=LIMIT, foreground=20.0
        )
        end_all(attacked.machine)
        lines = attacked.machine.check("cat", TRACE).splitlines()
        watch.check(ended)
        violating = violations(lines, attacked.home)
        assert not violating, (len(violating), violating[:20])
        assert any("setresuid" in line for line in lines), "no process dropped root"


def end_all(machine: Machine) -> None:
    """Kill the processes that are still traced, so that the trace is complete."""
    deadline = time.monotonic() + LIMIT
    while (left := machine.processes()) and time.monotonic() < deadline:  # the tracer exits after the last one
        for process in left:
            with suppress(psutil.Error):
                if process.name() != "strace":
                    process.kill()
        time.sleep(0.02)
    assert not left
