"""docs/reference/verbs.md is what its generator prints."""

from __future__ import annotations

from pathlib import Path

from tests.support.verbs_page import verbs_page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "verbs.md"


def test_the_page_of_verbs_is_current() -> None:
    """After a change of a command: python tests/support/verbs_page.py > docs/reference/verbs.md."""
    assert PAGE.read_text(encoding="utf-8") == verbs_page()
