"""What root's process does for a verb is no more than that verb can need."""

from __future__ import annotations

from typing import Any

import pytest

from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.root.grants import INSTALLING, LOOKING, RUNNING, Call

LEAVING = {Request.LEAVE, Request.PROMPT}


@pytest.mark.parametrize(
    ("verb", "options", "more"),
    [
        ("status", {}, set()),
        ("logs", {}, set()),
        ("config show", {}, set()),
        ("storage migrate", {}, set()),
        ("backup list", {}, set()),
        ("start", {}, RUNNING),
        ("serve", {}, {Request.BIND}),
        ("auth users create", {}, {Request.PROMPT}),
        ("auth users list", {}, set()),
        ("install", {}, INSTALLING),
        ("install", {"dry_run": True}, {Request.BIND}),
        ("uninstall", {}, INSTALLING),
        ("uninstall", {"purge": "0123456789abcdef"}, INSTALLING | LEAVING),
        ("uninstall", {"purge": "0123456789abcdef", "dry_run": True}, set()),
        ("doctor", {}, {Request.BIND}),
        ("doctor", {"bundle": "/f"}, {Request.BIND, Request.OPEN_OUTPUT}),
        ("doctor", {"fix": True}, RUNNING | {Request.ENABLE_UNIT, Request.REMOVE_FORMER_PROGRAMS}),
        ("backup create", {}, INSTALLING),
        ("backup create", {"directory": "/d"}, INSTALLING | {Request.MAKE_DIRECTORY, Request.KEEP_DIRECTORY}),
        ("backup verify", {}, {Request.PLACE_POSTGRES}),
        ("a verb of later", {}, set()),
    ],
)
def test_grants(verb: str, options: dict[str, Any], more: set[Request]) -> None:
    """Every request that is not named here is refused."""
    assert {request for request in Request if Call(verb, options).grants(request)} == LOOKING | more


@pytest.mark.parametrize("verb", ["install", "uninstall", "doctor", "backup create"])
def test_a_verb_that_looks_is_granted_nothing_that_changes(verb: str) -> None:
    """As for the checks before an installation, which run as a user without rights; the port is tried out."""
    call = Call(verb, {"purge": "0123456789abcdef", "fix": True, "bundle": "/f", "directory": "/d"}, read_only=True)
    assert {request for request in Request if call.grants(request)} - {Request.BIND} == LOOKING
