"""The command that hints name is one that the person can type."""

from __future__ import annotations

from pathlib import Path

import pytest

from mosaic_gateway.cli.typed_program import typed_program


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An executable file in a directory whose name needs quotes."""
    path = tmp_path / "my venv" / "mosaic-gateway"
    path.parent.mkdir()
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_outside_of_path_it_is_the_absolute_path_quoted(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that the shell does not find by its name is called by its path, however it was written."""
    monkeypatch.chdir(program.parent)
    assert typed_program("./mosaic-gateway", "/usr/bin") == f"'{program}'"
    assert typed_program(str(program), None) == f"'{program}'"


def test_on_path_it_is_the_name(program: Path) -> None:
    """The name suffices if it leads to the same file, also through a link."""
    directory = program.parent.parent / "bin"
    directory.mkdir()
    (directory / "mosaic-gateway").symlink_to(program)
    for path in (str(program.parent), f"/usr/bin:{directory}"):
        assert typed_program(str(program), path) == "mosaic-gateway"
        assert typed_program("mosaic-gateway", path) == "mosaic-gateway"


def test_another_program_of_that_name_on_path(program: Path) -> None:
    """A name that leads to another installation does not suffice."""
    other = program.parent.parent / "mosaic-gateway"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert typed_program(str(program), str(other.parent)) == f"'{program}'"


@pytest.mark.parametrize("started_as", ["/x/__main__.py", "-c", "/usr/bin/pytest", ""])
def test_what_has_another_name_is_called_by_the_name(started_as: str) -> None:
    """Started as a module or by a test, the program is called by its name."""
    assert typed_program(started_as, "/usr/bin") == "mosaic-gateway"
