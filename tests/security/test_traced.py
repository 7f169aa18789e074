"""Root's processes under strace: after the owner was found, none of them names a path of the home."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress

import psutil
import pytest
from tests.security.conftest import MakeBase
from tests.security.installation import Watch
from tests.security.interpreters import KINDS
from tests.security.machine import Machine
from tests.security.traced import STRACE, violations
from tests.security.verbs import VERBS, Verb

LIMIT = 120.0  # seconds; strace stops every call
TRACE = "/var/cache/trace"
#: The tracer, which lives on with the gateway, has no descriptor of ours then.
IN_FILES = '"$@" > /var/cache/out 2> /var/cache/err; code=$?; cat /var/cache/out; cat /var/cache/err >&2; exit $code'


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """By default each verb runs with one kind of interpreter, with ``--whole`` with both."""
    if "verb" not in metafunc.fixturenames:
        return
    whole = bool(metafunc.config.getoption("--whole", default=False))
    found = [
        pytest.param(verb, kind, id=f"{verb.text}-{kind}")
        for index, verb in enumerate(VERBS)
        for kind in (KINDS if whole else [KINDS[index % len(KINDS)]])
    ]
    metafunc.parametrize(("verb", "interpreter"), found)


def test_root_names_no_path_of_the_home(make_made: MakeBase, verb: Verb, interpreter: str) -> None:
    """What a process does before it has given root up for good has nothing to do with the home's content."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    with make_made(interpreter).copied() as attacked:
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
        found = violations(lines, attacked.home)
        assert not found, (len(found), found[:20])
        assert any("setresuid" in line for line in lines), "nothing gave root up"


def end_all(machine: Machine) -> None:
    """End what is still traced, so that the trace is complete."""
    deadline = time.monotonic() + LIMIT
    while (left := machine.processes()) and time.monotonic() < deadline:  # the tracer ends with the last
        for process in left:
            with suppress(psutil.Error):
                if process.name() != "strace":
                    process.kill()
        time.sleep(0.02)
    assert not left
