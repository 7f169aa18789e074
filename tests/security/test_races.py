"""The account repeatedly exchanges directories of its home with links to root's while a verb run by root works."""

from __future__ import annotations

import pytest
from tests.security import race
from tests.security.alternating import GetBase
from tests.security.canary import CANARY, TENANT
from tests.security.installation import Watch
from tests.security.interpreters import KINDS
from tests.security.verbs import CHANGING, Verb

ROUNDS = 200  # of each verb, with --whole
NAMES = (
    "logs",
    "run",
    "secrets",
    "data",
    "backups",
    "runtime",
    "bin",
    "data/postgres-18",
    "config.toml",
    "receipt.json",
)


@pytest.mark.parametrize("verb", CHANGING, ids=lambda verb: verb.text)
def test_exchanged_directories_give_no_access(get_base: GetBase, verb: Verb, whole: bool) -> None:
    """Only the account follows the link, and it has no access to the target."""
    for number in range(ROUNDS if whole else 2):
        with get_base(KINDS[number % len(KINDS)]).copied() as attacked:
            words = verb.words(attacked)
            if verb.running:
                attacked.started()
            watch = Watch(attacked)
            target = (CANARY, TENANT)[number // 2 % 2]
            first = CHANGING.index(verb) + number
            names = [NAMES[(first + index) % len(NAMES)] for index in range(3)] if number % 2 else list(NAMES)
            with race.started(attacked, race.EXCHANGE_DIRECTORIES, target, *names):
                ended = verb.run(attacked, words)
            watch.check_race(ended)
