"""A parsed migration file: its chunks, and the statements of each chunk with their parse trees.

Offsets reported by pglast, which wraps PostgreSQL's own parser (libpg_query), count characters of the parsed text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pglast import ast
from pglast.parser import ParseError, parse_sql

from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.lint.bodies import NO_BODY, Body, body_of
from mosaic_gateway.migrations.parse import BREAKPOINT

__all__ = ["Chunk", "Command", "Fault", "SqlFile", "read_script"]


@dataclass(frozen=True, slots=True)
class Command:
    """One statement: its parse tree, the line of the file on which it begins, and its body if it has one."""

    node: ast.Node
    line: int
    body: Body = NO_BODY

    @property
    def nodes(self) -> tuple[ast.Node, ...]:
        """The parse trees of the statement and of those in its body."""
        return (self.node, *self.body.nodes)


@dataclass(frozen=True, slots=True)
class Fault:
    """A syntax error reported by PostgreSQL's parser; ``position`` is a character offset in the chunk."""

    message: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The text between two breakpoints; ``line`` is the line on which the text begins, including white space."""

    text: str
    line: int
    last: bool
    commands: tuple[Command, ...] = ()
    fault: Fault | None = None

    @property
    def lines(self) -> range:
        """The lines of the file that the chunk covers, without surrounding white space."""
        begin = len(self.text) - len(self.text.lstrip())
        return range(self.line_at(begin), self.line_at(len(self.text.rstrip())) + 1)

    def line_at(self, position: int) -> int:
        """Return the line of the file at character *position* of the chunk."""
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
        """All statements in order."""
        for chunk in self.chunks:
            yield from chunk.commands


def read_script(file: str, text: str) -> SqlFile:
    """Return *text* split at the breakpoints exactly as the runner splits it, with each chunk parsed."""
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
        # Some versions of pglast include preceding white space and comments in a statement.
        first = next((start for start in starts if start >= offset), offset)
        if statement.stmt is not None:
            commands.append(Command(statement.stmt, chunk.line_at(first), body_of(statement.stmt)))
    return Chunk(text=chunk.text, line=chunk.line, last=chunk.last, commands=tuple(commands))
