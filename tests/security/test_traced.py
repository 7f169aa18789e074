"""Root's processes under strace: after the owner was found, none of them names a path of the home."""

from __future__ import annotations

import shutil

import pytest
from tests.security.conftest import MakeBase
from tests.security.installation import Watch
from tests.security.interpreters import KINDS
from tests.security.traced import STRACE, violations
from tests.security.verbs import VERBS, Verb

LIMIT = 120.0  # seconds; strace stops every call


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
        ended = verb.run(attacked, words, (*STRACE, "-o", "/var/cache/trace"), limit=LIMIT)
        lines = attacked.machine.check("cat", "/var/cache/trace").splitlines()
        watch.check(ended)
        found = violations(lines, attacked.home)
        assert not found, (len(found), found[:20])
        assert any("setres" in line for line in lines), "nothing gave root up"
