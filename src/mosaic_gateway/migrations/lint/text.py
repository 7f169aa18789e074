"""Rules on the bytes and chunks of a file: syntax errors, and bytes that other tools hash differently."""

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

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: A comment that resembles the breakpoint marker; only the exact text separates chunks.
MARKER_LIKE = re.compile(
    r"--[ \t]*(?:>[ \t]*statement[ \t_-]*breakpoint|statement-breakpoint[ \t]*$)", re.IGNORECASE | re.MULTILINE
)
UTF8 = "Save the file as UTF-8 without a byte order mark and with LF line ends."
COPY = "Write the rows as INSERT … VALUES."


def check_bytes(file: str, content: bytes) -> Iterator[LintFinding]:
    """Yield findings for the bytes of a file; with `Rule.ENCODING` among them, the file cannot be parsed."""
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        why = f"byte {error.start + 1} is not UTF-8; drizzle would hash and send a different text"
        yield LintFinding(rule=Rule.ENCODING, file=file, line=line, why=why, instead=UTF8)
    if (position := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        why = "PostgreSQL does not accept a NUL character; the text would end there"
        yield LintFinding(rule=Rule.ENCODING, file=file, line=line, why=why, instead="Remove the character.")
    if content.startswith(BYTE_ORDER_MARK):
        why = "the file begins with a byte order mark, which is part of the hash and which PostgreSQL does not accept"
        yield LintFinding(rule=Rule.BYTE_ORDER_MARK, file=file, line=1, why=why, instead=UTF8)
    if (position := content.find(b"\r")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        why = "a carriage return: line ends are part of the hash, and a checkout that converts them changes it"
        instead = f"{UTF8} Disable line-end conversion in git: *.sql -text in .gitattributes."
        yield LintFinding(rule=Rule.LINE_ENDINGS, file=file, line=line, why=why, instead=instead)


def check_chunks(script: SqlFile) -> Iterator[LintFinding]:
    """Yield chunks that PostgreSQL cannot parse, empty chunks, and misspelt breakpoints."""
    empty = [chunk for chunk in script.chunks if not chunk.commands and chunk.fault is None]
    if len(empty) == len(script.chunks):
        why = "the file has no statement; once it is applied, adding statements is refused as drift"
        instead = "Add its statements, or remove the file and its journal entry."
        yield LintFinding(rule=Rule.EMPTY_MIGRATION, file=script.file, line=1, why=why, instead=instead)
    else:
        for chunk in empty:
            line = chunk.line_at(len(chunk.text) - len(chunk.text.lstrip()))
            why = "the chunk has no statement; drizzle sends it to the server as it is"
            instead = "Remove the breakpoint, or move the comment to the chunk that it describes."
            yield LintFinding(rule=Rule.EMPTY_CHUNK, file=script.file, line=line, why=why, instead=instead)
    for chunk in script.chunks:
        if chunk.fault is not None:
            yield _fault(script.file, chunk)
        yield from _misspelt(script.file, chunk)


def check_copy(script: SqlFile) -> Iterator[LintFinding]:
    """Yield COPY statements that transfer rows to or from the client."""
    for command in script.commands:
        node = command.node
        if isinstance(node, ast.CopyStmt) and not node.filename:
            why = "COPY FROM STDIN or TO STDOUT needs a client that sends or receives rows; a migration has none"
            yield LintFinding(rule=Rule.COPY_STDIN, file=script.file, line=command.line, why=why, instead=COPY)


def _misspelt(file: str, chunk: Chunk) -> Iterator[LintFinding]:
    for match in MARKER_LIKE.finditer(chunk.text):
        if not lex(chunk.text[: match.start()]).closed:
            continue
        why = f"{match[0]!r} is only a comment: the statements before and after it are one chunk and commit together"
        yield LintFinding(
            rule=Rule.BREAKPOINT_SPELLING,
            file=file,
            line=chunk.line_at(match.start()),
            why=why,
            instead=f"Write {BREAKPOINT!r} exactly, or reword the comment.",
        )


def _fault(file: str, chunk: Chunk) -> LintFinding:
    assert chunk.fault is not None  # noqa: S101 - the caller has checked it
    message, position = chunk.fault.message, chunk.fault.position
    line = chunk.line_at(position)
    lexed = lex(chunk.text)
    if (copy := _copy_before(lexed, position)) is not None:
        why = "COPY FROM STDIN with inline rows works only in psql; the server parses the rows as statements"
        return LintFinding(rule=Rule.COPY_STDIN, file=file, line=chunk.line_at(copy), why=why, instead=COPY)
    if chunk.text[position : position + 1] == "\\":
        why = "a psql meta-command, which only psql understands"
        instead = "Replace it with SQL, or remove it."
        return LintFinding(rule=Rule.PSQL_COMMAND, file=file, line=line, why=why, instead=instead)
    if not lexed.closed:
        why = f"{message}: it does not end within its chunk"
        instead = "Close it." if chunk.last else "Close it; if a breakpoint is inside of it, move that after it."
        return LintFinding(rule=Rule.UNTERMINATED, file=file, line=line, why=why, instead=instead)
    why = f"PostgreSQL's parser: {message}"
    return LintFinding(rule=Rule.SYNTAX_ERROR, file=file, line=line, why=why, instead="Correct the statement.")


def _copy_before(lexed: Lexed, position: int) -> int | None:
    """Return the position of a COPY … FROM STDIN that ends before *position*, None if there is none."""
    for statement in lexed.statements():
        if not is_word(statement[0], "copy"):
            continue
        for one, two in pairwise(statement):
            if is_word(one, "from") and is_word(two, "stdin") and two.position < position:
                return statement[0].position
    return None
