from __future__ import annotations

import os
from pathlib import Path

import pytest

from mosaic_gateway.fs.staging import (
    TEMPORARY,
    remove_temporaries,
    remove_tree,
    staged,
    temporaries,
    temporary,
    temporary_sibling,
)


def test_every_temporary_has_one_form_of_name(tmp_path: Path) -> None:
    """Also that of a target whose name begins with a dot."""
    for name in ("a", ".hidden", "postgresql-18.6", "manifest.json"):
        path = temporary_sibling(tmp_path / name)
        assert path.parent == tmp_path
        assert TEMPORARY.fullmatch(path.name)
        assert f".{name.lstrip('.')}." in path.name
    assert temporary_sibling(tmp_path / "a") != temporary_sibling(tmp_path / "a")


def test_a_directory_appears_whole(tmp_path: Path) -> None:
    """Nothing has its name before the block has ended, and nothing else is left."""
    target = tmp_path / "target"
    with staged(target) as place:
        place.mkdir()
        (place / "file").write_text("new")
        assert not target.exists()
    assert (target / "file").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("replace", [False, True])
def test_a_failure_leaves_the_target_as_it_was(tmp_path: Path, replace: bool) -> None:
    """Neither the new content nor a temporary stays."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(KeyboardInterrupt), staged(target, replace=replace) as place:  # noqa: PT012 - as it is used
        place.mkdir()
        (place / "file").write_text("new")
        raise KeyboardInterrupt
    assert (target / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_existing_target_is_replaced_only_on_request(tmp_path: Path) -> None:
    """A directory that is not empty refuses the rename."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(OSError, match="not empty"), staged(target) as place:
        place.mkdir()
    assert (target / "file").read_text() == "old"
    with staged(target, replace=True) as place:
        place.mkdir()
    assert list(target.iterdir()) == []
    assert list(tmp_path.iterdir()) == [target]


def test_temporaries_are_found_and_removed(tmp_path: Path) -> None:
    """Files, links and directories; other names stay, and a missing directory has none."""
    (tmp_path / ".a.0123abcd.tmp").mkdir()
    (tmp_path / ".a.0123abcd.tmp" / "file").touch()
    (tmp_path / ".b.json.89abcdef.tmp").touch()
    (tmp_path / ".c.89abcdef.tmp").symlink_to(tmp_path / "kept")
    for name in ("kept", ".kept.tmp", ".kept.0123abcd", "x.0123abcd.tmp"):
        (tmp_path / name).touch()
    assert len(temporaries(tmp_path)) == 3
    remove_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", ".kept.tmp", ".kept.0123abcd", "x.0123abcd.tmp"}
    assert temporaries(tmp_path / "none") == ()


def test_temporaries_of_some_targets_only(tmp_path: Path) -> None:
    """Those of other targets may be in use by processes that hold other locks."""
    for name in (".a-1.0123abcd.tmp", ".a-2.0123abcd.tmp", ".b.0123abcd.tmp", ".c.0123abcd.tmp"):
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, "a-", "c")
    assert [path.name for path in tmp_path.iterdir()] == [".b.0123abcd.tmp"]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_temporary_is_removed_after_the_block(tmp_path: Path, renamed: bool) -> None:
    """Unless the block renames it."""
    with temporary(tmp_path / "a") as path:
        path.mkdir()
        (path / "file").touch()
        if renamed:
            path.rename(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"] * renamed


def test_a_replaced_directory_is_put_back_if_the_new_one_is_missing(tmp_path: Path) -> None:
    """The block has created nothing: the rename fails, and the target is what it was."""
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(FileNotFoundError), staged(target, replace=True):
        pass
    assert (target / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("strict", [False, True])
def test_removing_paths_of_every_type(tmp_path: Path, strict: bool) -> None:
    """A directory is removed recursively, a link without its target."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "keep").touch()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "tree", "fifo", "missing"):
        remove_tree(tmp_path / name, strict=strict)
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "keep"]


def test_errors_of_a_removal_are_raised_on_request(tmp_path: Path) -> None:
    """Otherwise what can be removed is removed."""
    path = tmp_path / "file" / "below"
    path.parent.touch()
    remove_tree(path)
    with pytest.raises(NotADirectoryError):
        remove_tree(path, strict=True)
