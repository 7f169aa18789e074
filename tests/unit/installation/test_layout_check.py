"""The layout check: directories of a home must be directories and lock files regular files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.planted import NOT_REGULAR, within

from mosaic_gateway.gateway.control import gateway_process
from mosaic_gateway.installation.home_lock import home_locked
from mosaic_gateway.installation.layout import Home, HomeLayoutError, check_layout, check_run_directory

DIRECTORIES = ("backups", "bin", "data", "logs", "run", "runtime", "secrets")
LOCKS = (".lock", "run/supervisor.lock", "run/gateway.lock", "run/engine.lock")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home with all its directories and lock files."""
    monkeypatch.chdir(tmp_path)
    created = Home(tmp_path / "home")
    for name in DIRECTORIES:
        (created.path / name).mkdir(parents=True, mode=0o700)
    for name in LOCKS:
        (created.path / name).touch(0o600)
    yield created
    for path in created.path.iterdir():
        if not path.is_symlink():
            path.chmod(0o700)


def hold(home: Home) -> None:
    """Acquire and release the home's lock."""
    with home_locked(home, "test"):
        pass


def test_valid_home(home: Home) -> None:
    """A complete home and a home without its directories are accepted, also if the path of the home is a link."""
    hold(home)
    (home.path.with_name("link")).symlink_to(home.path)
    check_layout(Home(home.path.with_name("link")))
    for name in DIRECTORIES:
        for path in (home.path / name).iterdir():
            path.unlink()
        (home.path / name).rmdir()
    check_layout(home)
    check_layout(Home(home.path / "missing"))


@pytest.mark.parametrize("name", DIRECTORIES)
@pytest.mark.parametrize("kind", [*sorted(set(NOT_REGULAR) - {"directory"}), "link to a directory"])
def test_another_file_type_in_place_of_a_directory(home: Home, name: str, kind: str, tmp_path: Path) -> None:
    """A verb that changes the home is refused, and the target of a link is unchanged."""
    place = home.path / name
    place.rename(tmp_path / "elsewhere")
    if kind == "link to a directory":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        NOT_REGULAR[kind](place)
    before = sorted((tmp_path / "elsewhere").iterdir())
    for act in (check_layout, hold):
        with pytest.raises(HomeLayoutError, match=f"home/{name} must be a directory") as caught:
            within(lambda act=act: act(home))  # type: ignore[misc]
    assert (caught.value.code, caught.value.exit_code) == ("HOME_LAYOUT", 7)
    assert ("symbolic link" in caught.value.message) == place.is_symlink()
    assert sorted((tmp_path / "elsewhere").iterdir()) == before


@pytest.mark.parametrize("name", LOCKS)
@pytest.mark.parametrize("kind", NOT_REGULAR)
def test_another_file_type_in_place_of_a_lock_file(home: Home, name: str, kind: str) -> None:
    """A lock file of another type is refused without blocking or following a link."""
    (home.path / name).unlink()
    NOT_REGULAR[kind](home.path / name)
    with pytest.raises(HomeLayoutError, match=f"home/{name} must be a regular file"):
        within(lambda: hold(home))


@pytest.mark.skipif(os.geteuid() == 0, reason="root ignores file modes")
@pytest.mark.parametrize("name", [*DIRECTORIES, *LOCKS])
def test_not_accessible_to_its_owner(home: Home, name: str) -> None:
    """The hint names the command that corrects the modes."""
    (home.path / name).chmod(0)
    with pytest.raises(HomeLayoutError, match=f"home/{name} is not accessible to its owner.*0000") as caught:
        hold(home)
    assert "doctor --fix" in str(caught.value.hint)


def test_stop_checks_the_run_directory_only(home: Home, tmp_path: Path) -> None:
    """``stop`` works in a home with other faults, but not if the run directory is a link to another one."""
    home.data.rmdir()
    home.data.symlink_to(tmp_path)
    assert gateway_process.stop(home) is None
    for name in LOCKS[1:]:
        (home.path / name).unlink()
    home.run.rmdir()
    home.run.symlink_to(tmp_path)
    acts: tuple[Callable[[Home], object], ...] = (check_run_directory, gateway_process.stop)
    for act in acts:
        with pytest.raises(HomeLayoutError, match="home/run"):
            act(home)
