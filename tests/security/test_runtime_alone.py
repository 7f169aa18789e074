"""The command without the installer (``python -m mosaic_gateway``), run by root on an account's home."""

from __future__ import annotations

import pytest
from tests.security.installation import Installation, Watch


@pytest.mark.parametrize(
    "verb",
    ["status", "logs", "config show", "auth users list", "storage status", "bootstrap status", "stop"],
)
def test_a_verb_runs_as_the_owner(attacked: Installation, watch: Watch, verb: str) -> None:
    """A verb succeeds and harms nothing, also with an interpreter that the account cannot read."""
    attacked.started()
    ended = attacked.machine.run(attacked.python, "-P", "-m", "mosaic_gateway", *verb.split(), "--home", attacked.home)
    assert ended.code == 0, ended
    assert watch.harm() == []
