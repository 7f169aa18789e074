"""Counts the words that this project does not use: ``python tests/support/words.py [PATH...]`` lists each place."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["AVOIDED", "uses_in", "uses_of_avoided_words"]

REPOSITORY = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".mjs", ".js", ".html", ".css", ".sh"}
_TAKE, _GIVE = "(?:takes?|taken|taking|took)", "(?:gives?|given|giving|gave)"
#: Word or phrase → what stands there instead (docs/glossary.md). Parts of identifiers count as words.
AVOIDED = {
    "nobody": "no one, no process",
    "somebody": "another process, another user",
    "whoever": "the process that, the user who",
    "told|tells?|telling": "report, say which",
    "mend(?:s|ed|ing)?": "repair",
    "strangers?": "foreign",
    f"{_TAKE} back": "roll back",
    f"{_TAKE} up": "adopt",
    "(?:holds?|held) against": "verify against",
    "made": "created",
    "kept": "retained",
    "look(?:s|ed|ing)? at": "inspect",
    "wish(?:es)?": "options",
    "patients?": "installation",
    "pictures?": "snapshot",
    "belongings": "inventory",
    f"{_GIVE} up": "drop, abandon",
    "makes? the first admin": "create the first admin",
}
_PATTERN = re.compile(rf"(?<![a-z])(?:{'|'.join(AVOIDED)})(?![a-z])".replace(" ", r"\s+"), re.IGNORECASE)
#: Identifiers are split where a word ends: `make_home`, `HomeLayout`.
_PARTS = re.compile(r"_|(?<=[a-z])(?=[A-Z])")

#: What a comment's next line begins with.
_COMMENT_LEAD = re.compile(r"\n[ \t]*(?:#:?|//|\*)[ \t]*")


def uses_in(text: str) -> Iterator[tuple[int, str]]:
    """Yield line number and word for each use in *text*; a phrase may go on in the next line."""
    flowing = _PARTS.sub(" ", _COMMENT_LEAD.sub("\n", text))
    for match in _PATTERN.finditer(flowing):
        yield flowing.count("\n", 0, match.start()) + 1, " ".join(match[0].split())


def uses_of_avoided_words(*roots: Path) -> list[str]:
    """Return ``path:line: word`` for each use in the program files below *roots*."""
    found = []
    for root in roots:
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.suffix in SUFFIXES and "node_modules" not in path.parts:
                text = path.read_text(encoding="utf-8")
                found += [f"{path}:{line}: {word}" for line, word in uses_in(text)]
    return found


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]] or [REPOSITORY / "src", REPOSITORY / "installer"]
    uses = uses_of_avoided_words(*given)
    sys.stdout.write("\n".join([*uses, f"{len(uses)} uses\n"]))
