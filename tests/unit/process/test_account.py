"""Users of the machine, and whose a home is."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mosaic_gateway.process.account import HomeOwnerError, account_named, account_of, check_owner


def test_an_account_is_found_by_name_and_by_number() -> None:
    """Both give what the user database has."""
    entry = pwd.getpwuid(os.getuid())
    found = account_of(os.getuid())
    assert found is not None
    assert (found.name, found.uid, found.gid, found.directory) == (
        entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir,
    )  # fmt: skip
    assert account_named(entry.pw_name) == found


def test_unknown_account() -> None:
    """A name or a number that the machine does not know is no account."""
    assert account_named("no-such-user-here") is None
    assert account_of(4_000_000) is None


def test_a_home_of_ones_own(scratch: Path) -> None:
    """Our own directory is accepted."""
    check_owner(scratch)


@pytest.mark.skipif(os.geteuid() == 0, reason="root's own")
def test_a_home_of_another_user() -> None:
    """It is refused by the owner's name."""
    with pytest.raises(HomeOwnerError, match="belongs to root"):
        check_owner(Path("/"))


@pytest.mark.root
def test_an_owner_without_an_entry(scratch: Path) -> None:
    """An owner who is not in the user database is an error that says so."""
    os.chown(scratch, 4_000_000, -1)
    with pytest.raises(HomeOwnerError, match="4000000"):
        check_owner(scratch)
