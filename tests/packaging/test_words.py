"""The program is written in words of its field (docs/glossary.md)."""

from __future__ import annotations

from pathlib import Path

from tests.support.words import uses_in, uses_of_avoided_words

REPOSITORY = Path(__file__).parents[2]
ALLOWED = 10  # names on disk of version 0.1.0, and of the system's account


def test_avoided_words_do_not_come_back() -> None:
    """Metaphors and private words occur in ``src`` and ``installer`` only where a name on disk has them."""
    found = uses_of_avoided_words(REPOSITORY / "src", REPOSITORY / "installer")
    assert len(found) <= ALLOWED, "\n".join(found)


def test_words_are_found_in_names_and_across_lines() -> None:
    """Parts of identifiers count, and a phrase that goes on in a comment's next line."""
    text = "def take_back(x):\n    # It was looked\n    # at, and TellTale made it.\n    kept_data = 1\n"
    assert [word for _, word in uses_in(text)] == ["take back", "looked at", "Tell", "made", "kept"]
    assert list(uses_in("makes handmade told1 unkept")) == [(1, "told")]
