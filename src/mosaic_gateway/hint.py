"""Text that names commands of this program as values: hints, and lines of output.

``"Start it: " + command("start")`` is a `Hint`. It is rendered once, by the `Caller` who describes how the person who
reads it calls this program. ``str(hint)`` is the text for a reader whose home is the default one, such as a log.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

__all__ = ["HIDDEN", "ON_A_DATABASE", "PROGRAM", "Caller", "Command", "Hint", "Text", "command", "from_json", "to_json"]

PROGRAM = "mosaic-gateway"
#: Verbs that work on the database of `Caller.target`, if there is one.
ON_A_DATABASE = frozenset({"storage status", "storage plan", "storage migrate", "storage resolve", "storage baseline"})
#: Stands for a value that is not shown because it may contain a password.
HIDDEN = "…"


# Every process imports this module: a named tuple is created in a fraction of the time of a dataclass.
class Command(NamedTuple):
    """A command of this program: the words of its verb, its arguments, and the home if it is not the caller's."""

    verb: str
    arguments: tuple[str, ...] = ()
    home: str | None = None


@dataclass(frozen=True, slots=True)
class Hint:
    """Text with commands; texts and hints are added with ``+``."""

    parts: tuple[str | Command, ...]

    def __add__(self, other: Text) -> Hint:
        return Hint((*self.parts, *(other.parts if isinstance(other, Hint) else (other,))))

    def __radd__(self, other: str) -> Hint:
        return Hint((other, *self.parts))

    def __str__(self) -> str:
        return Caller().text(self)


Text: TypeAlias = str | Hint


class Caller(NamedTuple):
    """How the reader of a hint calls this program.

    ``program`` is the command, ``home`` the home given by ``--home``. ``target`` are the options that name a database,
    with their values; the verbs `ON_A_DATABASE` get them instead of ``--home``.
    """

    program: str = PROGRAM
    home: Path | None = None
    target: tuple[str, ...] = ()

    def text(self, text: Text) -> str:
        """Return *text* with its commands as this caller types them."""
        if isinstance(text, str):
            return text
        return "".join(part if isinstance(part, str) else self._typed(part) for part in text.parts)

    def _typed(self, command: Command) -> str:
        import shlex  # noqa: PLC0415 - few processes render a command

        home = command.home if command.home is not None else self.home
        at_home = () if home is None else ("--home", str(home))
        location = self.target if self.target and command.verb in ON_A_DATABASE else at_home
        words = (word if word == HIDDEN else shlex.quote(word) for word in (*location, *command.arguments))
        return " ".join([self.program, command.verb, *words])


def command(verb: str, *arguments: str, home: Path | None = None) -> Hint:
    """Return the hint that is only a command of this program; *home* if it is for another home than the caller's."""
    return Hint((Command(verb, arguments, None if home is None else str(home)),))


def to_json(text: Text) -> Any:
    """Return the JSON form: a string, or a list of strings and of objects with ``verb``, ``arguments`` and ``home``."""
    if isinstance(text, str):
        return text
    return [part if isinstance(part, str) else part._asdict() for part in text.parts]


def from_json(value: Any) -> Text:
    """Return the text of which *value* is the JSON form. Raises ValueError."""
    if isinstance(value, str | Hint):
        return value
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a text")  # noqa: TRY004 - like a parse error
    return Hint(tuple(part if isinstance(part, str) else _command(part) for part in value))


def _command(value: Any) -> Command:
    match value:
        case {"verb": str(verb), "arguments": [*arguments], "home": str() | None as home}:
            if all(isinstance(word, str) for word in arguments):
                return Command(verb, tuple(arguments), home)
    raise ValueError(f"{value!r} is not a command")
