"""Root's test run, installing as an ordinary user as well."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.installer.conftest import MakeSite, Site


@pytest.fixture
def user_site(make_user_site: MakeSite) -> Site:
    """Return a site on which an ordinary user works."""
    return make_user_site()


def test_an_ordinary_user_installs_uses_and_removes(user_site: Site) -> None:
    """From install to purge without any right beyond the user's own; no account is made or named."""
    done = user_site.install()
    assert done.result["account"] is None
    assert "hand-over" not in done.steps
    assert user_site.install().steps == []
    assert user_site.json("doctor").code == 0
    assert user_site.json("uninstall", f"--purge={user_site.receipt()['instance_id']}").code == 0
    user_site.assert_nothing_runs()


def test_an_ordinary_user_cannot_install_for_another(user_site: Site) -> None:
    """--run-as is root's."""
    done = user_site.install("--run-as", "nobody")
    assert (done.code, done.error["code"]) == (2, "RUN_AS")


def test_a_home_of_another_user_is_closed(user_site: Site) -> None:
    """Neither install nor uninstall nor doctor takes a closed directory for a broken or missing one."""
    if os.geteuid() != 0:
        pytest.skip("needs a second user, which only root can be")
    user_site.path.mkdir(mode=0o700)
    os.chown(user_site.path, 65534, 65534)
    assert user_site.install().error["code"] == "HOME_UNUSABLE"
    for verb in ("uninstall", "doctor"):
        done = user_site.json(verb)
        assert (done.code, done.error["code"]) == (3, "HOME_OWNER")
    os.chown(user_site.path, 0, 0)
