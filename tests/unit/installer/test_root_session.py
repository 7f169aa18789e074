"""Root's session on a home that its owner installed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mosaic_gateway.cli import Invocation
from mosaic_gateway.process import Account, find_path
from mosaic_gateway_installer.checks.home_errors import OwnerCannotRunError
from mosaic_gateway_installer.root.session import RootSession


@pytest.mark.parametrize("verb", ["install", "upgrade", "backup restore"])
def test_programs_that_the_owner_cannot_run_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Before any change: no worker is started. With a Python that the owner can run, the verb runs."""
    started: list[Account] = []

    def run_worker(_session: RootSession, account: Account, *_: object) -> int:
        started.append(account)
        return 0

    monkeypatch.setattr(RootSession, "_run_worker", run_worker)
    monkeypatch.setattr("mosaic_gateway.process.interpreter_closed_to", lambda _account: Path("/root"))
    owner = Account(name="ada", uid=os.getuid(), gid=os.getgid(), directory=str(tmp_path))
    invocation = Invocation(
        verbs={}, words=(), directory=tmp_path, broker=None, root_side=None, load=lambda _verb: None
    )
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with find_path(home) as found:
        with pytest.raises(OwnerCannotRunError, match=r"own home of ada, who has no access to /root"):
            RootSession(invocation, verb, found, {}).run_as(owner)
        assert started == []
        assert list(home.iterdir()) == []
        RootSession(invocation, "uninstall", found, {}).run_as(owner)
        RootSession(invocation, verb, found, {"dry_run": True}).run_as(owner)
        monkeypatch.setattr("mosaic_gateway.process.interpreter_closed_to", lambda _account: None)
        RootSession(invocation, verb, found, {}).run_as(owner)
    assert len(started) == 3
