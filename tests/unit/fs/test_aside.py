"""Setting files aside, putting them back, and deleting them."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from mosaic_gateway.fs.aside import (
    Aside,
    Reason,
    RemovalIncompleteError,
    erase,
    lying_aside,
    put_back,
    require_erased,
    set_aside,
)

OWN = re.compile(r"own-[\w.]+|other")


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def _full(path: Path) -> Path:
    path.mkdir()
    (path / "file").touch()
    return path


@pytest.mark.parametrize("reason", [Reason.REMOVED, Reason.REVERTED])
def test_what_is_set_aside_is_found_by_its_name_and_put_back(tmp_path: Path, reason: Reason) -> None:
    """The file itself is renamed, so that its content stays."""
    path = _full(tmp_path / "own-1.2")
    set_aside([path], reason)
    assert _names(tmp_path) == [f".own-1.2.{reason}"]
    (lying,) = lying_aside(tmp_path, OWN)
    assert lying == Aside(tmp_path / f".own-1.2.{reason}", path, reason)
    put_back([lying])
    assert _names(tmp_path) == ["own-1.2"]
    assert (path / "file").exists()


def test_only_own_names_and_the_given_reasons_are_found(tmp_path: Path) -> None:
    """A file of the user's may have such an ending."""
    for name in (
        ".mine.removed",
        ".removed",
        ".other",
        "own-1.removed",
        ".own-1.reverted",
        ".own-1.01234567.removed.x",
    ):
        (tmp_path / name).touch()
    set_aside([_full(tmp_path / "own-2")], Reason.REMOVED)
    assert [one.original.name for one in lying_aside(tmp_path, OWN, Reason.REMOVED)] == ["own-2"]
    assert [one.original.name for one in lying_aside(tmp_path, OWN)] == ["own-1", "own-2"]
    assert lying_aside(tmp_path / "missing", OWN) == ()


def test_a_file_that_exists_again_is_not_replaced(tmp_path: Path) -> None:
    """What lies aside stays there; the next `set_aside` leaves it only to be deleted."""
    path = _full(tmp_path / "other")
    set_aside([path], Reason.REMOVED)
    _full(path)
    put_back(lying_aside(tmp_path, OWN))
    assert _names(tmp_path) == [".other.removed", "other"]
    set_aside([path], Reason.REMOVED)
    reasons = sorted(one.reason for one in lying_aside(tmp_path, OWN))
    assert reasons == [Reason.ERASED, Reason.REMOVED]


def test_the_names_of_version_0_1_0_are_found(tmp_path: Path) -> None:
    """It erased under a name without digits."""
    for name in (".other.erased", ".own-18.3.erased", ".own-18.3.reverted", ".other.removed"):
        (tmp_path / name).touch()
    found = [(one.path.name, one.reason) for one in lying_aside(tmp_path, OWN)]
    assert found == [(f".{name}", Reason(name.rpartition(".")[2])) for name in (
        "other.erased", "other.removed", "own-18.3.erased", "own-18.3.reverted",
    )]  # fmt: skip
    assert erase([tmp_path / ".other.erased", tmp_path / "missing"]) == ()
    assert not (tmp_path / ".other.erased").exists()


def test_a_removal_goes_through_a_name_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed removal leaves is never a part of a directory under its own name, nor obstructs the next."""
    monkeypatch.setattr("mosaic_gateway.fs.aside.remove_tree", lambda _path: None)
    for _ in range(2):
        path = _full(tmp_path / "other")
        assert [left.name for left in erase([path])] == ["file"]
        assert not path.exists()
    set_aside([_full(path)], Reason.REMOVED)
    erase(one.path for one in lying_aside(tmp_path, OWN, Reason.REMOVED))
    lying = lying_aside(tmp_path, OWN, Reason.ERASED)
    assert len(lying) == 3
    monkeypatch.undo()
    assert erase(one.path for one in lying) == ()
    assert _names(tmp_path) == []


def test_a_removal_goes_on_past_what_it_cannot_delete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It returns what remains, and the error names the owner; the next removal deletes it."""
    if os.geteuid() == 0:
        pytest.skip("root can delete everything")
    # A directory of another user, whose mode this user cannot change.
    monkeypatch.setattr("mosaic_gateway.fs.staging.open_directory_to_owner", lambda _path: None)
    path = _full(tmp_path / "other")
    closed = _full(path / "closed")
    _full(path / "open")
    _full(tmp_path / "own-1")
    closed.chmod(0o500)
    remaining = erase([path, tmp_path / "own-1"])
    (lying,) = lying_aside(tmp_path, OWN)
    assert remaining == (lying.path / "closed" / "file",)
    assert _names(lying.path) == ["closed"]
    with pytest.raises(RemovalIncompleteError, match=re.escape(f"1 file(s) could not be deleted: {remaining[0]} (own")):
        require_erased(remaining)
    (lying.path / "closed").chmod(0o700)
    require_erased(erase([lying.path]))
    assert _names(tmp_path) == []


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o555])
def test_directories_closed_to_their_owner_are_deleted(tmp_path: Path, mode: int) -> None:
    """The mode of an own directory does not keep it from being deleted."""
    path = _full(tmp_path / "other")
    inner = _full(_full(path / "outer") / "inner")
    inner.chmod(mode)
    inner.parent.chmod(mode)
    assert erase([path]) == ()
    assert _names(tmp_path) == []


def test_what_cannot_be_renamed_is_passed_over_on_request(tmp_path: Path) -> None:
    """Setting aside leaves it in place and goes on; without the request it raises, with nothing renamed before."""
    if os.geteuid() == 0:
        pytest.skip("root can rename everything")
    fixed, free = _full(_full(tmp_path / "fixed") / "own-1"), _full(tmp_path / "own-2")
    fixed.parent.chmod(0o500)
    with pytest.raises(PermissionError):
        set_aside([fixed], Reason.REMOVED)
    set_aside([fixed, free], Reason.REMOVED, as_far_as_possible=True)
    assert (fixed.exists(), free.exists()) == (True, False)
    assert erase([fixed]) == (fixed,)  # its content is deleted, under its own name
    assert _names(fixed) == []
    fixed.parent.chmod(0o700)


@pytest.mark.parametrize("count", [1, 9])
def test_the_hint_is_the_command_that_deletes_the_rest(tmp_path: Path, count: int) -> None:
    """At most five paths are named, quoted for the shell; never a directory that contains them."""
    paths = [_full(tmp_path / f"a b{number}") for number in range(count)]
    with pytest.raises(RemovalIncompleteError) as raised:
        require_erased(paths)
    words = str(raised.value.hint).partition("As root: ")[2].partition(". Then")[0]
    assert shlex.split(words) == ["rm", "-rf", *map(str, paths[:5])]
    assert ("and 4 more" in str(raised.value)) is (count == 9)
