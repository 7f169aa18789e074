"""A parsed migration file: its chunks, and the statements of each chunk with their parse trees.

Offsets reported by pglast, which wraps PostgreSQL's own parser (libpg_query), count characters of the parsed text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pglast import ast
from pglast.parser import ParseError, parse_sql

from mosaic_gateway.migrations.groups import Conflict, Group, conflict_in, divide
from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.lint.bodies import NO_BODY, Body, body_of
from mosaic_gateway.migrations.model import Statement
from mosaic_gateway.migrations.parse import BREAKPOINT, split
from mosaic_gateway.migrations.transaction_control import cut

__all__ = ["Chunk", "Command", "Fault", "SqlFile", "Transaction", "read_script"]


@dataclass(frozen=True, slots=True)
class Command:
    """One statement: its parse tree, the line of the file on which it begins, and its body if it has one.

    ``number`` is that of the runner's statement which contains it (`parse.split`).
    """

    node: ast.Node
    line: int
    number: int
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
    """The text between two breakpoints; ``line`` is the line on which the text begins, including white space.

    ``first`` is the number of the runner's first statement in it.
    """

    text: str
    line: int
    first: int
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

    @property
    def parts(self) -> tuple[int, ...]:
        """The offsets of the runner's statements in it."""
        return tuple(offset for offset, part in cut(self.text) if part.strip())


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """Statements that the runner commits together: with ``conflict`` it refuses them, ``last`` if none follow."""

    group: Group
    commands: tuple[Command, ...]
    conflict: Conflict | None
    last: bool

    def shared(self, command: Command) -> bool:
        """Return whether *command* shares its transaction with others, BEGIN and COMMIT not counted."""
        others = (each for each in self.commands if not isinstance(each.node, ast.TransactionStmt))
        return self.group.cause is not None or any(each is not command for each in others)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlFile:
    """A migration file: ``file`` is its name in the bundle.

    ``statements`` are those of the runner, ``transactions`` those in which it runs them, in order.
    """

    file: str
    text: str
    chunks: tuple[Chunk, ...]
    statements: tuple[Statement, ...]
    transactions: tuple[Transaction, ...]

    @property
    def commands(self) -> Iterator[Command]:
        """All statements in order."""
        for chunk in self.chunks:
            yield from chunk.commands


def read_script(file: str, text: str) -> SqlFile:
    """Return *text* split at the breakpoints exactly as the runner splits it, with each chunk parsed."""
    pieces = text.split(BREAKPOINT)
    chunks = []
    line = first = 1
    for number, piece in enumerate(pieces, 1):
        chunk = _parse(Chunk(text=piece, line=line, first=first, last=number == len(pieces)))
        chunks.append(chunk)
        line += piece.count("\n")
        first += len(chunk.parts)
    statements = split(text)
    commands = deque(command for chunk in chunks for command in chunk.commands)
    transactions = tuple(_transactions(statements, commands))
    return SqlFile(file=file, text=text, chunks=tuple(chunks), statements=statements, transactions=transactions)


def _transactions(statements: Sequence[Statement], commands: deque[Command]) -> Iterator[Transaction]:
    """Yield the transactions of a file; removes their *commands*."""
    for group in divide(statements):
        own = []
        while commands and commands[0].number <= group.last:
            own.append(commands.popleft())
        last = group.last == len(statements)
        yield Transaction(group=group, commands=tuple(own), conflict=conflict_in(group, followed=not last), last=last)


def _parse(chunk: Chunk) -> Chunk:
    try:
        statements = parse_sql(chunk.text)
    except ParseError as error:
        message = str(error.args[0])
        position = error.args[1] if len(error.args) > 1 else None
        end = len(chunk.text.rstrip())
        return replace(chunk, fault=Fault(message, position if isinstance(position, int) else end))
    starts = [token.position for token in lex(chunk.text).tokens]
    parts = chunk.parts
    commands = []
    for statement in statements:
        offset = statement.stmt_location or 0
        # Some versions of pglast include preceding white space and comments in a statement.
        begin = next((start for start in starts if start >= offset), offset)
        if statement.stmt is not None:
            number = chunk.first + bisect_right(parts, begin) - 1
            commands.append(Command(statement.stmt, chunk.line_at(begin), number, body_of(statement.stmt)))
    return replace(chunk, commands=tuple(commands))
