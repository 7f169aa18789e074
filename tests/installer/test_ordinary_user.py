"""Installs by an ordinary user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from tests.support.site import MakeSite, Site

RUNNER = Path(__file__).parents[1] / "support" / "ordinary_user.py"
OTHER = 65534  # a user id
of_users = pytest.mark.skipif(os.geteuid() == 0, reason="for an ordinary user")


@of_users
def test_an_ordinary_user_installs_uses_and_removes(site: Site) -> None:
    """From install to purge without privileges; no account is created."""
    done = site.install()
    assert done.result["account"] is None
    assert "hand-over" not in done.steps
    assert site.install().steps == []
    assert site.json("doctor").code == 0
    assert site.json("uninstall", f"--purge={site.receipt()['instance_id']}").code == 0
    site.assert_nothing_runs()


@of_users
def test_an_ordinary_user_cannot_install_for_another(site: Site) -> None:
    """--run-as is refused unless root runs the command."""
    done = site.install("--run-as", "daemon")
    assert (done.code, done.error["code"]) == (2, "RUN_AS")


@pytest.mark.root
def test_a_home_of_another_user_is_refused(make_site: MakeSite, open_directory: Path) -> None:
    """Install, uninstall and doctor report an inaccessible home as such, not as damaged or missing."""
    site = make_site(parent=open_directory, prefix=(sys.executable, str(RUNNER)), run_as=False)
    site.path.mkdir(mode=0o700)
    os.chown(site.path, OTHER, OTHER)
    assert site.install().error["code"] == "HOME_UNUSABLE"
    for verb in ("uninstall", "doctor"):
        done = site.json(verb)
        assert (done.code, done.error["code"]) == (3, "HOME_OWNER")
