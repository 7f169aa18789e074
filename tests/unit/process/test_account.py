"""User accounts, and the check of a home's owner."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mosaic_gateway.process.account import HomeOwnerError, account_named, account_of, check_owner


def test_an_account_is_found_by_name_and_by_number() -> None:
    """Both functions return the entry of the user database."""
    entry = pwd.getpwuid(os.getuid())
    account = account_of(os.getuid())
    assert account is not None
    assert (account.name, account.uid, account.gid, account.directory) == (
        entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir,
    )  # fmt: skip
    assert account_named(entry.pw_name) == account


def test_unknown_account() -> None:
    """An unknown name or user id is None."""
    assert account_named("no-such-user-here") is None
    assert account_of(4_000_000) is None


def test_own_home(scratch: Path) -> None:
    """A directory of this user is accepted."""
    check_owner(scratch)


@pytest.mark.skipif(os.geteuid() == 0, reason="root owns /")
def test_a_home_of_another_user() -> None:
    """A directory of another user is refused, and the error names its owner."""
    with pytest.raises(HomeOwnerError, match="belongs to root"):
        check_owner(Path("/"))


@pytest.mark.root
def test_an_owner_without_an_entry(scratch: Path) -> None:
    """If the owner has no entry in the user database, the error names the user id."""
    os.chown(scratch, 4_000_000, -1)
    with pytest.raises(HomeOwnerError, match="4000000"):
        check_owner(scratch)
