"""Every verb, run by root, on homes in which the account has planted unexpected objects.

By default every verb is tested with every kind of object, and every place with every kind; ``--whole`` runs each verb
with each kind at each place.
"""

from __future__ import annotations

import pytest
from tests.security import planted
from tests.security.alternating import GetBase
from tests.security.installation import Watch
from tests.security.interpreters import KINDS
from tests.security.planted import PLACES, Place
from tests.security.verbs import VERBS, Verb

Pairs = tuple[tuple[Place, str], ...]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose what is planted for each verb."""
    if "pairs" not in metafunc.fixturenames:
        return
    whole = bool(metafunc.config.getoption("--whole", default=False))
    cases = []
    for index, verb in enumerate(VERBS):
        runs = [[pair] for pair in planted.products()] if whole else planted.rounds(index, len(VERBS))
        for number, pairs in enumerate(runs):
            interpreter = KINDS[(index + number) % len(KINDS)]
            case = f"{verb.text}-{number}-{interpreter}"
            cases.append(pytest.param(verb, tuple(pairs), interpreter, number, id=case))
    metafunc.parametrize(("verb", "pairs", "interpreter", "number"), cases)


def test_verbs_on_planted_objects(get_base: GetBase, verb: Verb, pairs: Pairs, interpreter: str, number: int) -> None:
    """A verb exits in time, with a documented exit code and no traceback, and root harms no file of others."""
    with get_base(interpreter).copied() as attacked:
        words = verb.words(attacked)
        if verb.running:
            attacked.started()
        planted.plant(attacked, pairs, number + VERBS.index(verb))
        watch = Watch(attacked)
        watch.check(verb.run(attacked, words))


@pytest.mark.parametrize("place", [place for place in PLACES if place.values], ids=lambda place: place.path)
def test_invalid_values_in_records(get_base: GetBase, place: Place, whole: bool) -> None:
    """A record with wrong types, foreign names or odd paths leads at most to an error."""
    chosen = range(0, len(place.values), 1 if whole else len(place.values) // 4 + 1)
    with get_base(KINDS[PLACES.index(place) % len(KINDS)]).copied() as attacked:
        watch = Watch(attacked)
        for number in chosen:
            planted.plant(attacked, [(place, "values")], number)
            watch.check(*(attacked.verb(*words.split()) for words in ("status", "doctor")[: 2 if whole else 1]))
