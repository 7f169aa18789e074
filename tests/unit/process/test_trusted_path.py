"""Paths that root uses. These tests need no other user; tests/security has the attacks of other users."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from mosaic_gateway.process.trusted_path import UnsafePathError, find_path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a directory that only its owner can write."""
    tmp_path.chmod(0o755)
    return tmp_path.resolve()


def test_existing_and_missing_paths(directory: Path) -> None:
    """The deepest existing directory is open, and the missing components below it are listed."""
    (directory / "a").mkdir()
    with find_path(directory / "a") as found:
        assert (found.owner, found.is_directory, found.missing) == (os.geteuid(), True, ())
    with find_path(directory / "a" / "b" / "c") as found:
        assert (found.status, found.missing, found.path) == (None, ("b", "c"), directory / "a" / "b" / "c")
        assert os.path.samestat(os.fstat(found.parent), (directory / "a").stat())


def test_a_directory_that_others_may_write_is_refused(directory: Path) -> None:
    """Any user who may write into a directory could replace its entries."""
    (directory / "open").mkdir()
    (directory / "open").chmod(0o777)
    with (
        pytest.raises(UnsafePathError, match="users other than its owner may write"),
        find_path(directory / "open" / "home"),
    ):
        pass


def test_a_link_that_root_does_not_own_is_refused(directory: Path) -> None:
    """Its owner could change the target of the link after the check."""
    (directory / "a").mkdir()
    (directory / "link").symlink_to("a")
    if os.geteuid() == 0:
        os.lchown(directory / "link", pwd.getpwnam("daemon").pw_uid, -1)
    with pytest.raises(UnsafePathError, match="is a symbolic link"), find_path(directory / "link"):
        pass


@pytest.mark.root
def test_a_link_of_root_is_followed(directory: Path) -> None:
    """Only root could change its target after the check."""
    (directory / "a").mkdir()
    (directory / "link").symlink_to("a")
    with find_path(directory / "link") as found:
        assert found.path == directory / "a"


@pytest.mark.parametrize("place", [Path("/tmp"), Path("/tmp/programs")])  # noqa: S108 - read only
def test_paths_of_root_refuse_sticky_directories(place: Path) -> None:
    """In /tmp any user can create what root has removed. A home may be there, program copies may not."""
    with find_path(place):
        pass
    with pytest.raises(UnsafePathError, match="users other than its owner may write"), find_path(place, roots=True):
        pass


def test_paths_of_root() -> None:
    """A path below directories of root is accepted, whichever user calls."""
    with find_path(Path("/usr/local/lib/not-there-yet"), roots=True) as found:
        assert found.missing == ("not-there-yet",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root owns all directories")
def test_paths_of_root_refuse_directories_of_users(directory: Path) -> None:
    """A directory of another user is refused if all components must belong to root."""
    with pytest.raises(UnsafePathError), find_path(directory, roots=True):
        pass
