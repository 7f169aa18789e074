"""Which paths root acts on: decided with directories of our own; what other users could do is in tests/security."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mosaic_gateway.process.trusted_path import UnsafePathError, find_path


@pytest.fixture
def way(tmp_path: Path) -> Path:
    """Return a directory that only its owner can write."""
    tmp_path.chmod(0o755)
    return tmp_path.resolve()


def test_what_is_there_and_what_is_not(way: Path) -> None:
    """The deepest directory that is there is open, and the names below it are given."""
    (way / "a").mkdir()
    with find_path(way / "a") as found:
        assert (found.owner, found.is_directory, found.missing) == (os.geteuid(), True, ())
    with find_path(way / "a" / "b" / "c") as found:
        assert (found.status, found.missing, found.path) == (None, ("b", "c"), way / "a" / "b" / "c")
        assert os.path.samestat(os.fstat(found.parent), (way / "a").stat())


def test_a_directory_that_others_may_write_is_refused(way: Path) -> None:
    """Whoever may write there could exchange what is below."""
    (way / "open").mkdir()
    (way / "open").chmod(0o777)
    with pytest.raises(UnsafePathError, match="others than its owner may write"), find_path(way / "open" / "home"):
        pass


def test_a_link_of_another_than_root_is_refused(way: Path) -> None:
    """A user's own link could lead anywhere by the next look."""
    (way / "a").mkdir()
    (way / "link").symlink_to("a")
    if os.geteuid() == 0:
        with find_path(way / "link") as found:
            assert found.path == way / "a"
        return
    with pytest.raises(UnsafePathError, match="is a symbolic link"), find_path(way / "link"):
        pass


@pytest.mark.parametrize("place", [Path("/tmp"), Path("/tmp/programs")])  # noqa: S108 - looked at only
def test_roots_own_places_have_no_sticky_directory_on_the_way(place: Path) -> None:
    """In /tmp anybody can make what root has removed; a home may lie there, programs may not."""
    with find_path(place):
        pass
    with pytest.raises(UnsafePathError, match="others than its owner may write"), find_path(place, roots=True):
        pass


def test_roots_own_places_belong_to_root() -> None:
    """Below root's directories all is well, whoever asks."""
    with find_path(Path("/usr/local/lib/not-there-yet"), roots=True) as found:
        assert found.missing == ("not-there-yet",)


@pytest.mark.skipif(os.geteuid() == 0, reason="all is root's")
def test_a_users_directory_is_none_of_roots(way: Path) -> None:
    """What belongs to another user is refused where only root's may be."""
    with pytest.raises(UnsafePathError), find_path(way, roots=True):
        pass
