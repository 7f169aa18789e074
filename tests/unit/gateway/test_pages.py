from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from importlib_resources import files

from mosaic_gateway.gateway.pages import CONTENTS, PAGES, page_routes

ASSETS = files("mosaic_gateway.gateway") / "assets"
DOCUMENTS = sorted(name for name in CONTENTS if name.endswith(".html"))
SCRIPTS = sorted(name for name in CONTENTS if name.endswith(".js"))
#: Text and edges of controls, and the grounds on which they are: WCAG 1.4.3 asks 4.5 for text, 1.4.11 3 for controls.
CONTRASTS = (
    *((text, ground, 4.5) for text in ("ink", "soft", "accent") for ground in ("card", "ground")),
    *((kind, f"{kind}-ground", 4.5) for kind in ("bad", "good", "warn")),
    ("accent-ink", "accent", 4.5), ("accent", "accent-ground", 4.5), ("ink", "code", 4.5), ("bad", "card", 4.5),
    ("edge", "card", 3), ("edge", "ground", 3), ("accent", "line", 3),
)  # fmt: skip


class Page(HTMLParser):
    """A parser that collects the tags of a page."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(CONTENTS[name].decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Store the tag."""
        self.tags.append((tag, dict(attrs)))


def test_every_file_is_served() -> None:
    """The shipped files and the served files are the same, and each page has a path or is the page of a 404."""
    assert set(CONTENTS) == {entry.name for entry in ASSETS.iterdir()}
    assert set(PAGES.values()) | {"missing.html"} == set(DOCUMENTS)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_pages_comply_with_the_content_security_policy(name: str) -> None:
    """No inline script or style, no event handler attribute, and every reference is a served path."""
    paths = {route.path for route in page_routes()}
    for tag, attributes in Page(name).tags:
        assert not [key for key in attributes if key == "style" or key.startswith("on")], (tag, attributes)
        assert tag != "style"
        assert tag != "script" or attributes.get("src")
        for reference in (attributes.get("src"), attributes.get("href")):
            assert reference is None or reference in paths


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_import_served_modules(name: str) -> None:
    """Each import names a module that is shipped."""
    imported = re.findall(r'from "\./([\w.]+)"', CONTENTS[name].decode())
    assert set(imported) <= set(SCRIPTS)


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if b"<form" in CONTENTS[name]])
def test_every_field_has_a_label_and_an_error_element(name: str) -> None:
    """Each input has a label and a description that ends with its live error element; forms wait for their module."""
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
    assert all("hidden" in attributes for tag, attributes in tags if tag == "form")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_insert_text_only(name: str) -> None:
    """No script parses text as HTML or runs it."""
    source = CONTENTS[name].decode()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|setHTML|DOMParser|eval\(|Function\(", source
    )


def test_links_lose_their_token() -> None:
    """The token of a link is removed from the address bar."""
    assert "history.replaceState" in CONTENTS["link_token.js"].decode()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("one", "other", "least"), CONTRASTS)
def test_contrast(scheme: str, one: str, other: str, least: float) -> None:
    """Text and the borders of fields contrast with their ground in both colour schemes."""
    light, dark = CONTENTS["style.css"].decode().split("prefers-color-scheme: dark", 1)
    colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6});", light if scheme == "light" else dark))
    first, second = sorted((luminance(colours[one]), luminance(colours[other])))
    assert (second + 0.05) / (first + 0.05) >= least


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2 of a colour of six hexadecimal digits."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
