"""Every verb of root's on homes in which the account has planted what no installation has.

By default every verb meets every kind of thing, and every place of a home holds every kind; ``--whole`` runs each verb
with each kind at each place.
"""

from __future__ import annotations

import pytest
from tests.security import planted
from tests.security.conftest import MakeBase
from tests.security.installation import Watch
from tests.security.interpreters import KINDS
from tests.security.planted import PLACES, Place
from tests.security.verbs import VERBS, Verb

Pairs = tuple[tuple[Place, str], ...]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose what is planted for which verb."""
    if "pairs" not in metafunc.fixturenames:
        return
    whole = bool(metafunc.config.getoption("--whole", default=False))
    found = []
    for index, verb in enumerate(VERBS):
        runs = [[pair] for pair in planted.products()] if whole else planted.rounds(index, len(VERBS))
        for number, pairs in enumerate(runs):
            interpreter = KINDS[(index + number) % len(KINDS)]
            case = f"{verb.text}-{number}-{interpreter}"
            found.append(pytest.param(verb, tuple(pairs), interpreter, number, id=case))
    metafunc.parametrize(("verb", "pairs", "interpreter", "number"), found)


def test_a_verb_meets_what_was_planted(
    make_made: MakeBase, verb: Verb, pairs: Pairs, interpreter: str, number: int
) -> None:
    """It ends in time, with an exit code of its own and no traceback, and root does nothing for the account."""
    with make_made(interpreter).copied() as attacked:
        words = verb.words(attacked)
        if verb.running:
            attacked.started()
        planted.plant(attacked, pairs, number + VERBS.index(verb))
        watch = Watch(attacked)
        watch.check(verb.run(attacked, words))


@pytest.mark.parametrize("place", [place for place in PLACES if place.values], ids=lambda place: place.path)
def test_values_of_the_wrong_kind(make_made: MakeBase, place: Place, whole: bool) -> None:
    """A record with wrong types, foreign names and odd paths: what reads it says so, and nothing else happens."""
    chosen = range(0, len(place.values), 1 if whole else len(place.values) // 4 + 1)
    with make_made(KINDS[PLACES.index(place) % len(KINDS)]).copied() as attacked:
        watch = Watch(attacked)
        for number in chosen:
            planted.plant(attacked, [(place, "values")], number)
            watch.check(*(attacked.verb(*words.split()) for words in ("status", "doctor")[: 2 if whole else 1]))
