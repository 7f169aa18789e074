"""Rules on the bytes and the chunks of a file: what the parser refuses, or hashes otherwise elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from pglast import ast

from mosaic_gateway.migrations.lexer import Lexed, lex
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import Chunk, SqlFile
from mosaic_gateway.migrations.parse import BREAKPOINT
from mosaic_gateway.migrations.statement_traits import is_word

__all__ = ["check_bytes", "check_chunks", "check_copy"]

MARK = b"\xef\xbb\xbf"
#: A comment that looks like the marker; only the exact text separates chunks.
MARKER_LIKE = re.compile(
    r"--[ \t]*(?:>[ \t]*statement[ \t_-]*breakpoint|statement-breakpoint[ \t]*$)", re.IGNORECASE | re.MULTILINE
)
UTF8 = "Save the file as UTF-8 without a byte order mark and with LF line ends."
COPY = "Write the rows as INSERT … VALUES."


def check_bytes(file: str, content: bytes) -> Iterator[LintFinding]:
    """Yield what is wrong with the bytes of a file; only a file without `Rule.ENCODING` can be read on."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        why = f"byte {error.start + 1} is not UTF-8; drizzle would hash and send another text than this"
        yield LintFinding(rule=Rule.ENCODING, file=file, line=line, why=why, instead=UTF8)
    if (position := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        why = "PostgreSQL takes no NUL character; the text would end there"
        yield LintFinding(rule=Rule.ENCODING, file=file, line=line, why=why, instead="Remove the character.")
    if content.startswith(MARK):
        why = "the file begins with a byte order mark, which counts for the hash and which PostgreSQL does not take"
        yield LintFinding(rule=Rule.BYTE_ORDER_MARK, file=file, line=1, why=why, instead=UTF8)
    if (position := content.find(b"\r")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        why = "a carriage return: line ends count for the hash, and a checkout that rewrites them makes it drift"
        instead = f"{UTF8} Keep git from rewriting it: *.sql -text in .gitattributes."
        yield LintFinding(rule=Rule.LINE_ENDINGS, file=file, line=line, why=why, instead=instead)


def check_chunks(script: SqlFile) -> Iterator[LintFinding]:
    """Yield chunks that PostgreSQL cannot parse, that hold nothing, and marks that separate none."""
    empty = [chunk for chunk in script.chunks if not chunk.commands and chunk.fault is None]
    if len(empty) == len(script.chunks):
        why = "the file holds no statement; once it is applied like this, filling it is refused as drift"
        instead = "Write its statements, or remove the file and its journal entry."
        yield LintFinding(rule=Rule.EMPTY_MIGRATION, file=script.file, line=1, why=why, instead=instead)
    else:
        for chunk in empty:
            line = chunk.line_at(len(chunk.text) - len(chunk.text.lstrip()))
            why = "the chunk holds no statement; drizzle sends it to the server as it is"
            instead = "Remove the breakpoint, or join the comment to the chunk that it speaks of."
            yield LintFinding(rule=Rule.EMPTY_CHUNK, file=script.file, line=line, why=why, instead=instead)
    for chunk in script.chunks:
        if chunk.fault is not None:
            yield _fault(script.file, chunk)
        yield from _misspelt(script.file, chunk)


def check_copy(script: SqlFile) -> Iterator[LintFinding]:
    """Yield COPY statements that want the client to send or to take rows."""
    for command in script.commands:
        node = command.node
        if isinstance(node, ast.CopyStmt) and not node.filename:
            why = "COPY FROM STDIN or TO STDOUT waits for a client that sends or takes rows; a migration has none"
            yield LintFinding(rule=Rule.COPY_STDIN, file=script.file, line=command.line, why=why, instead=COPY)


def _misspelt(file: str, chunk: Chunk) -> Iterator[LintFinding]:
    for match in MARKER_LIKE.finditer(chunk.text):
        if not lex(chunk.text[: match.start()]).closed:
            continue
        why = f"{match[0]!r} is only a comment: what comes before and after it is one chunk, and commits together"
        yield LintFinding(
            rule=Rule.BREAKPOINT_SPELLING,
            file=file,
            line=chunk.line_at(match.start()),
            why=why,
            instead=f"Write {BREAKPOINT!r} exactly, or word the comment otherwise.",
        )


def _fault(file: str, chunk: Chunk) -> LintFinding:
    assert chunk.fault is not None  # noqa: S101 - only called with one
    message, position = chunk.fault.message, chunk.fault.position
    line = chunk.line_at(position)
    lexed = lex(chunk.text)
    if (copy := _copy_before(lexed, position)) is not None:
        why = "COPY FROM STDIN with its rows is for psql; the server takes the rows for statements"
        return LintFinding(rule=Rule.COPY_STDIN, file=file, line=chunk.line_at(copy), why=why, instead=COPY)
    if chunk.text[position : position + 1] == "\\":
        why = "a command of psql, which only psql understands"
        instead = "Write the SQL that it stands for, or leave it out."
        return LintFinding(rule=Rule.PSQL_COMMAND, file=file, line=line, why=why, instead=instead)
    if not lexed.closed:
        why = f"{message}: it does not end within its chunk"
        instead = "Close it." if chunk.last else "Close it; if the breakpoint stands inside of it, move that behind it."
        return LintFinding(rule=Rule.UNTERMINATED, file=file, line=line, why=why, instead=instead)
    why = f"PostgreSQL's parser: {message}"
    return LintFinding(rule=Rule.SYNTAX_ERROR, file=file, line=line, why=why, instead="Correct the statement.")


def _copy_before(lexed: Lexed, position: int) -> int | None:
    """Return where a COPY … FROM STDIN begins that ends before *position*."""
    for statement in lexed.statements():
        if not is_word(statement[0], "copy"):
            continue
        for one, two in pairwise(statement):
            if is_word(one, "from") and is_word(two, "stdin") and two.position < position:
                return statement[0].position
    return None
