"""Root's process grants a verb only the requests that the verb can need."""

from __future__ import annotations

from typing import Any

import pytest

from mosaic_gateway.process.root_requests import Request
from mosaic_gateway_installer.root.grants import INSTALLING, READING, RUNNING, Call

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
        ("auth users remove", {}, {Request.PROMPT}),
        ("auth users ban", {}, set()),
        ("auth tokens create", {}, set()),
        ("auth tokens create", {"output": "/f"}, {Request.OPEN_OUTPUT}),
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
        ("unknown verb", {}, set()),
    ],
)
def test_grants(verb: str, options: dict[str, Any], more: set[Request]) -> None:
    """All requests that are not listed are refused."""
    assert {request for request in Request if Call(verb, options).grants(request)} == READING | more


@pytest.mark.parametrize("verb", ["install", "uninstall", "doctor", "backup create"])
def test_a_read_only_call_is_granted_no_modifying_request(verb: str) -> None:
    """A read-only call, such as the preflight checks as an unprivileged user, can also bind the port."""
    call = Call(verb, {"purge": "0123456789abcdef", "fix": True, "bundle": "/f", "directory": "/d"}, read_only=True)
    assert {request for request in Request if call.grants(request)} - {Request.BIND} == READING
