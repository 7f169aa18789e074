"""Acting as the home's owner, for a while or for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.files import make_directory, write_file
from mosaic_gateway.process.account import (
    Account,
    HomeOwnerError,
    account_named,
    assume,
    owner_of,
    popen_identity,
)
from mosaic_gateway.process.lockfile import FileLock

#: Becomes the account argv[1] ('' for none) and tells what is left of root.
BECOME = """
import json, os, sys
from mosaic_gateway.process.account import HomeOwnerError, account_named, become, owner_of
become(account_named(sys.argv[1]))
try:
    os.setresuid(0, 0, 0)
    back = True
except PermissionError:
    back = False
try:
    owner = str(owner_of(__import__("pathlib").Path("/")))
except HomeOwnerError as error:
    owner = error.message
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "home": os.environ.get("HOME"),
    "back": back, "root": owner,
}))
"""


def become_in_a_child(account: Account | None) -> Any:
    """Return what a process says that has given up its rights for *account*."""
    words = [sys.executable, "-P", "-c", BECOME, account.name if account else ""]
    return json.loads(subprocess.run(words, check=True, capture_output=True, timeout=30).stdout)


def test_files_belong_to_the_owner(scratch: Path, account: Account | None) -> None:
    """What is made under `assume` is born the account's, even by root, and root is root again after it."""
    before = (os.geteuid(), os.getegid(), os.getgroups())
    owner = account or Account(name="me", uid=os.getuid(), gid=os.getgid(), directory="/")
    with assume(account):
        make_directory(scratch / "a" / "b")
        write_file(scratch / "a" / "b" / "file", "x")
        with FileLock(scratch / "a" / "lock") as lock:
            assert lock.acquire()
        assert os.geteuid() == owner.uid
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    for path in ("a", "a/b", "a/b/file", "a/lock"):
        status = (scratch / path).stat()
        assert (status.st_uid, status.st_gid) == (owner.uid, owner.gid), path
        assert not status.st_mode & 0o077


def test_assume_ends_with_an_error(scratch: Path, account: Account | None) -> None:
    """An error inside the block gives the rights back, too."""
    before = (os.geteuid(), os.getegid(), os.getgroups())
    with pytest.raises(ZeroDivisionError), assume(account):
        raise ZeroDivisionError
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write where the account may not")
def test_a_planted_link_leads_root_nowhere(scratch: Path, tmp_path: Path, account: Account | None) -> None:
    """A directory that the account replaced by a link does not let root write somewhere else."""
    (scratch / "run").symlink_to(tmp_path)
    with pytest.raises(PermissionError), assume(account):
        write_file(scratch / "run" / "file", "x")
    assert list(tmp_path.iterdir()) == []


def test_become_is_for_good(account: Account | None) -> None:
    """After `become` no id, no group and no variable of root is left, and there is no way back."""
    result = become_in_a_child(account)
    if account is None:
        assert result["uids"] == [os.getuid()] * 3
        return
    assert result == {
        "uids": [account.uid] * 3, "gids": [account.gid] * 3, "groups": [account.gid],
        "home": account.directory, "back": False, "root": "/ belongs to root",
    }  # fmt: skip


def test_programs_run_as_the_account(account: Account | None) -> None:
    """A program started with `popen_identity` has the account's ids and no other group."""
    code = "import os; print(os.getuid(), os.getgid(), *os.getgroups())"
    words = ["/bin/sh", "-c", "id -u; id -g; id -G"] if account else [sys.executable, "-c", code]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd="/", **popen_identity(account))
    numbers = list(map(int, done.stdout.split()))
    owner = (account.uid, account.gid) if account else (os.getuid(), os.getgid())
    assert tuple(numbers[:2]) == owner
    if account:
        assert numbers[2:] == [account.gid]


def test_owner_of(scratch: Path, account: Account | None) -> None:
    """The owner of a directory is found; our own directory needs none."""
    assert owner_of(scratch) == account
    mine = scratch / "mine"
    mine.mkdir()
    assert owner_of(mine) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_owner_that_nobody_knows(scratch: Path) -> None:
    """An owner without an entry in the user database is an error that says so."""
    os.chown(scratch, 4_000_000, -1)
    with pytest.raises(HomeOwnerError, match="4000000"):
        owner_of(scratch)


def test_unknown_account() -> None:
    """A name that the machine does not know is no account."""
    assert account_named("no-such-user-here") is None
