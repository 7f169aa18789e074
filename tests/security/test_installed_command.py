"""Root runs the installation's own command, whose modules lie in an archive that it has open."""

from __future__ import annotations

import pytest
from tests.security.installation import Installation, Watch
from tests.security.verbs import VERBS, Verb

#: Runs a command with the lowest descriptors taken, as a script's redirections have them.
TAKEN = ("sh", "-c", 'exec "$@" 3</dev/null 4</dev/null 5</dev/null', "sh")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.text)
def test_a_verb_finds_its_modules(attacked: Installation, watch: Watch, verb: Verb) -> None:
    """A worker goes on importing from the archive, whatever number its descriptor has."""
    command = attacked.machine.check("sh", "-c", "echo /usr/local/lib/mosaic-gateway/*/bin/mosaic-gateway").strip()
    words = verb.words(attacked)
    if verb.running:
        attacked.started()
    before = TAKEN if VERBS.index(verb) % 2 else ()
    ended = attacked.machine.run(*before, *verb.around(), command, *words, "--home", attacked.home)
    watch.check(ended)
    assert "INTERNAL" not in ended.out + ended.err, ended
