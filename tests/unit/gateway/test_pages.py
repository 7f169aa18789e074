from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from importlib_resources import files

from mosaic_gateway.gateway.pages import PATHS

ASSETS = files("mosaic_gateway.gateway") / "assets"
PAGES = ("index.html", "setup.html")


class Page(HTMLParser):
    """A parser that collects the tags of a page."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed((ASSETS / name).read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Store the tag."""
        self.tags.append((tag, dict(attrs)))


def test_every_asset_has_a_path() -> None:
    """The shipped asset files and the served files are the same."""
    assert {name for name, _ in PATHS.values()} == {entry.name for entry in ASSETS.iterdir()}


@pytest.mark.parametrize("name", PAGES)
def test_pages_comply_with_the_content_security_policy(name: str) -> None:
    """No inline script or style, no event handler attribute, and every reference is a served path."""
    for tag, attributes in Page(name).tags:
        assert not [key for key in attributes if key == "style" or key.startswith("on")], (tag, attributes)
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        for reference in (attributes.get("src"), attributes.get("href")):
            assert reference is None or reference in PATHS


@pytest.mark.parametrize("name", PAGES)
def test_every_field_has_a_label_and_an_error_element(name: str) -> None:
    """Each input has a label, aria-describedby and an aria-live error element, for screen readers."""
    tags = Page(name).tags
    ids = {attributes["id"]: attributes for _, attributes in tags if "id" in attributes}
    labels = {attributes.get("for") for tag, attributes in tags if tag == "label"}
    inputs = [attributes for tag, attributes in tags if tag == "input" and attributes.get("type") != "checkbox"]
    assert inputs
    for attributes in inputs:
        assert attributes["id"] in labels
        described = (attributes["aria-describedby"] or "").split()
        assert described[-1] == f"{attributes['id']}-error"
        assert all(reference in ids for reference in described)
        assert ids[described[-1]]["aria-live"] == "polite"


def test_scripts_insert_text_only() -> None:
    """No script parses text as HTML, and the set-up token is removed from the URL."""
    for name in ("gateway.js", "index.js", "setup.js"):
        source = (ASSETS / name).read_text(encoding="utf-8")
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)
    assert "history.replaceState" in (ASSETS / "setup.js").read_text(encoding="utf-8")
