"""The installation's own command, run by root; it imports its modules from an open archive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.security.installation import Installation, Watch
from tests.security.verbs import VERBS, Verb

from mosaic_gateway.installation.machine_record import record_file

#: Runs a command with the lowest descriptors in use, as a script with redirections does.
DESCRIPTORS_IN_USE = ("sh", "-c", 'exec "$@" 3</dev/null 4</dev/null 5</dev/null', "sh")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.text)
def test_a_verb_finds_its_modules(attacked: Installation, watch: Watch, verb: Verb) -> None:
    """A worker can import from the archive after the fork, whatever number the archive's descriptor has."""
    record = json.loads(attacked.machine.check("cat", str(record_file(Path(attacked.home)))))
    command = f"{record['programs']}/bin/mosaic-gateway"
    words = verb.words(attacked)
    if verb.running:
        attacked.started()
    before = DESCRIPTORS_IN_USE if VERBS.index(verb) % 2 else ()
    ended = attacked.machine.run(*before, *verb.around(), command, *words, "--home", attacked.home)
    watch.check(ended)
    assert "INTERNAL" not in ended.out + ended.err, ended
