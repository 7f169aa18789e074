"""A migration file as lint sees it: chunks, and the statements in each with their parse trees.

The one module that calls pglast, which is PostgreSQL's own parser (libpg_query). Offsets that pglast
gives count characters of the text that it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pglast import ast
from pglast.parser import ParseError, parse_sql

from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.parse import BREAKPOINT

__all__ = ["Chunk", "Command", "Fault", "SqlFile", "read_script"]


@dataclass(frozen=True, slots=True)
class Command:
    """One statement: its parse tree, and the line of the file on which it begins."""

    node: ast.Node
    line: int


@dataclass(frozen=True, slots=True)
class Fault:
    """Where and why PostgreSQL's parser gave up; ``position`` is a character of the chunk."""

    message: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The text between two breakpoints; ``line`` is the one on which the text begins, white space included."""

    text: str
    line: int
    last: bool
    commands: tuple[Command, ...] = ()
    fault: Fault | None = None

    @property
    def lines(self) -> range:
        """The lines of the file that the chunk touches, without white space around it."""
        begin = len(self.text) - len(self.text.lstrip())
        return range(self.line_at(begin), self.line_at(len(self.text.rstrip())) + 1)

    def line_at(self, position: int) -> int:
        """Return the line of the file that holds the character *position* of the chunk."""
        return self.line + self.text.count("\n", 0, position)

    def following(self, index: int) -> tuple[Command, ...]:
        """Return the statements of the chunk after the one at *index*."""
        return self.commands[index + 1 :]


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFile:
    """A migration file: ``file`` is its name in the bundle."""

    file: str
    text: str
    chunks: tuple[Chunk, ...]

    @property
    def commands(self) -> Iterator[Command]:
        """All statements in their order."""
        for chunk in self.chunks:
            yield from chunk.commands


def read_script(file: str, text: str) -> SqlFile:
    """Return *text* cut at the breakpoints as the runner cuts it, each chunk parsed."""
    pieces = text.split(BREAKPOINT)
    chunks = []
    line = 1
    for number, piece in enumerate(pieces, 1):
        chunks.append(_parse(Chunk(text=piece, line=line, last=number == len(pieces))))
        line += piece.count("\n")
    return SqlFile(file=file, text=text, chunks=tuple(chunks))


def _parse(chunk: Chunk) -> Chunk:
    try:
        statements = parse_sql(chunk.text)
    except ParseError as error:
        message = str(error.args[0])
        position = error.args[1] if len(error.args) > 1 else None
        fault = Fault(message, position if isinstance(position, int) else len(chunk.text.rstrip()))
        return Chunk(text=chunk.text, line=chunk.line, last=chunk.last, fault=fault)
    starts = [token.position for token in lex(chunk.text).tokens]
    commands = []
    for statement in statements:
        offset = statement.stmt_location or 0
        # Some versions count the space and the comments before a statement as its own.
        first = next((start for start in starts if start >= offset), offset)
        if statement.stmt is not None:
            commands.append(Command(statement.stmt, chunk.line_at(first)))
    return Chunk(text=chunk.text, line=chunk.line, last=chunk.last, commands=tuple(commands))
