"""Effects of a statement that end with its transaction, and statements that no transaction may contain. Pure.

Decided from the words of a statement, its DO block, and the string constants in that block, which may be dynamic SQL.
What a called function does is not known. `groups` uses both to decide which statements share one transaction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mosaic_gateway.migrations.lexer import Token, lex
from mosaic_gateway.migrations.side_effects import (
    begins_create_temporary,
    block_of,
    drops_on_commit,
    first_words,
    is_cursor_of_transaction,
    is_word,
    starts_statement,
)

__all__ = [
    "SCOPING_FUNCTIONS",
    "ConfigCall",
    "block_tokens",
    "config_calls",
    "needs_earlier",
    "needs_transaction",
    "refuses_transaction",
    "setting_names",
]

Tokens = tuple[Token, ...]

#: Functions whose effect ends with the transaction.
SCOPING_FUNCTIONS = frozenset({
    "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared", "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared", "lo_open", "pg_export_snapshot",
})  # fmt: skip
LOCKS_ROWS = (("for", "update"), ("for", "share"), ("for", "no", "key", "update"), ("for", "key", "share"))
#: Objects whose definition contains text that runs later, if at all.
DEFINED = {"function", "procedure", "view", "rule", "trigger", "policy"}
#: Names of settings that SET spells otherwise.
SPELLED = {"time": "timezone", "names": "client_encoding", "schema": "search_path", "xml": "xmloption"}


@dataclass(frozen=True, slots=True)
class ConfigCall:
    """A call of ``set_config``: the setting, None if it is computed, and whether it is local to the transaction.

    ``local`` is None if the third argument is neither ``true`` nor ``false``.
    """

    name: str | None
    local: bool | None


def needs_transaction(statement: Tokens) -> str | None:
    """Return what in *statement* acts until its transaction ends, beyond the statement; None if nothing does."""
    found = _construct(statement) or _locks_rows(statement) or _call(statement)
    if found is None and is_word(statement[0], "declare") and is_cursor_of_transaction(statement):
        found = "DECLARE CURSOR"
    return found or next((name for name in map(_in_block, block_tokens(statement)) if name), None)


def needs_earlier(statement: Tokens) -> str | None:
    """Return what in *statement* may need the transaction of earlier statements, None if nothing does.

    A cursor may have been opened by a function; COPY FREEZE needs a table that its transaction created or truncated.
    """
    words = first_words(statement, 3)
    if words[:1] in {("fetch",), ("move",), ("close",)} and words[:2] != ("close", "all"):
        return words[0].upper()
    if words[:1] == ("copy",) and any(is_word(token, "freeze") for token in statement):
        return "COPY FREEZE"
    texts = [token.text if token.kind == "word" else "" for token in statement]
    return "WHERE CURRENT OF" if _contains(texts, ("where", "current", "of")) else None


def refuses_transaction(statement: Tokens) -> str | None:
    """Return the name of *statement* if PostgreSQL refuses it in a transaction block (25001, 2D000), else None."""
    words = [token.text if token.kind == "word" else "" for token in statement]
    if words[0] == "do":
        commits = any(_ends_transaction(inner) for inner in block_of(statement))
        return "a DO block that commits" if commits else None
    return _refused_index(words) or _refused_object(words) or _refused_maintenance(words)


def config_calls(tokens: Tokens) -> Iterator[ConfigCall]:
    """Yield the calls of ``set_config`` in *tokens*."""
    for index, token in enumerate(tokens[:-1]):
        if token.kind in {"word", "name"} and token.text == "set_config" and tokens[index + 1].text == "(":
            arguments = _arguments(tokens[index + 2 :])
            first = arguments[0] if arguments else ()
            name = first[-1].text.lower() if first and first[-1].kind == "text" and len(first) in {1, 4} else None
            third = arguments[2] if len(arguments) > 2 else ()  # noqa: PLR2004 - three arguments
            word = third[-1].text if third and third[-1].kind == "word" and len(third) in {1, 4} else ""
            yield ConfigCall(name, {"true": True, "false": False}.get(word))


def setting_names(statement: Tokens, *, local: bool) -> frozenset[str] | None:
    """Return the settings that *statement* changes for its transaction (*local*) or for its session.

    None if they cannot all be determined.
    """
    names: set[str | None] = set()
    for tokens in (statement, *block_tokens(statement)):
        for index in range(len(tokens) - 1):
            if _sets_locally(tokens, index) if local else _sets_for_session(tokens, index):
                words = tokens[index + 1 :]
                names.add(_name(words[is_word(words[0], "local", "session") :]))
        if not _defines(tokens):
            names |= {call.name for call in config_calls(tokens) if call.local is not (not local)}
    known = frozenset(name for name in names if name is not None)
    return None if None in names else known


def _name(tokens: Tokens) -> str:
    """Return the name of the setting, possibly with a dot, with which *tokens* begin."""
    name, *following = [token.text.lower() for token in tokens[:3]] or [""]
    dotted = len(following) == 2 and following[0] == "."  # noqa: PLR2004 - a dot and a name
    return f"{name}.{following[1]}" if dotted else SPELLED.get(name, name)


def block_tokens(statement: Tokens) -> Iterator[Tokens]:
    """Yield the statements in a DO block, and those in its string constants, which may be dynamic SQL."""
    for inner in block_of(statement):
        yield inner
        for token in inner:
            if token.kind == "text" and " " in token.text:
                yield from lex(token.text).statements()


def _in_block(inner: Tokens) -> str | None:
    found = _call(inner)
    for index in range(len(inner)):
        if found:
            break
        if starts_statement(inner, index):
            found = _construct(inner[index:])
        elif _sets_locally(inner, index):
            found = "SET LOCAL"
    return found


def _construct(statement: Tokens) -> str | None:
    """Return the statement's name if it acts until the end of the transaction by its first words."""
    words = first_words(statement, 5)
    if words[:2] in {("set", "local"), ("set", "transaction"), ("set", "constraints")}:
        return " ".join(words[:2]).upper()
    if words[:1] == ("rollback",) and any(is_word(token, "to") for token in statement[1:3]):
        return "ROLLBACK TO"
    named = len(statement) > 1 and statement[1].kind in {"word", "name"}
    if words[:1] in {("lock",), ("savepoint",), ("release",)} and named:
        return words[0].upper()
    if begins_create_temporary(words) and drops_on_commit(statement) is not None:
        return f"CREATE TEMP … ON COMMIT {drops_on_commit(statement)}"
    return None


def _sets_locally(tokens: Tokens, index: int) -> bool:
    if not (is_word(tokens[index], "set") and index + 2 < len(tokens) and is_word(tokens[index + 1], "local")):
        return False
    return tokens[index + 2].kind in {"word", "name"}


def _sets_for_session(tokens: Tokens, index: int) -> bool:
    if not (is_word(tokens[index], "set") and starts_statement(tokens, index)):
        return False
    return not is_word(tokens[index + 1], "local", "transaction", "constraints")


def _locks_rows(statement: Tokens) -> str | None:
    """Return the clause if *statement* is a query that only locks rows, or also does so."""
    if not is_word(statement[0], "select", "with", "table", "values"):
        return None
    texts = [token.text if token.kind == "word" else "" for token in statement]
    return "SELECT … FOR UPDATE" if any(_contains(texts, clause) for clause in LOCKS_ROWS) else None


def _call(tokens: Tokens) -> str | None:
    if _defines(tokens):
        return None
    for index, token in enumerate(tokens[:-1]):
        if token.kind in {"word", "name"} and token.text in SCOPING_FUNCTIONS and tokens[index + 1].text == "(":
            return token.text
    return "set_config(…, true)" if any(call.local is not False for call in config_calls(tokens)) else None


def _defines(tokens: Tokens) -> bool:
    """Return whether *tokens* begin a definition that is only stored, such as CREATE OR REPLACE VIEW."""
    words = first_words(tokens, 5)
    return words[:1] == ("create",) and "materialized" not in words and not DEFINED.isdisjoint(words[1:])


def _arguments(tokens: Tokens) -> list[Tokens]:
    """Return the arguments of a call; *tokens* follow its opening parenthesis."""
    arguments: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.kind == "other" and token.text in "([":
            depth += 1
        elif token.kind == "other" and token.text in ")]":
            if depth == 0:
                break
            depth -= 1
        if depth == 0 and token.kind == "other" and token.text == ",":
            arguments.append([])
        else:
            arguments[-1].append(token)
    return [tuple(argument) for argument in arguments]


def _contains(texts: Sequence[str], wanted: tuple[str, ...]) -> bool:
    return any(tuple(texts[index : index + len(wanted)]) == wanted for index in range(len(texts)))


def _ends_transaction(inner: Tokens) -> bool:
    """Return whether a statement of a block ends its transaction: PL/pgSQL knows only COMMIT and ROLLBACK."""
    for index, token in enumerate(inner):
        if is_word(token, "commit", "rollback") and starts_statement(inner, index):
            following = inner[index + 1 : index + 2]
            if not following or is_word(following[0], "and", "work", "transaction"):
                return True
    return False


def _refused_index(words: Sequence[str]) -> str | None:
    if words[:2] in (["create", "index"], ["create", "unique"]) and "concurrently" in words[2:4]:
        return "CREATE INDEX CONCURRENTLY"
    if words[:3] == ["drop", "index", "concurrently"]:
        return "DROP INDEX CONCURRENTLY"
    if words[0] == "reindex":
        if "concurrently" in words:
            return "REINDEX CONCURRENTLY"
        kind = next((word for word in words[1:] if word in {"index", "table", "schema", "database", "system"}), "")
        return f"REINDEX {kind.upper()}" if kind in {"schema", "database", "system"} else None
    if words[:2] == ["alter", "table"] and words[-1] == "concurrently" and "detach" in words:
        return "DETACH PARTITION CONCURRENTLY"
    return None


def _refused_object(words: Sequence[str]) -> str | None:
    if words[:2] == ["alter", "system"]:
        return "ALTER SYSTEM"
    if words[0] in {"create", "drop"} and words[1:2] in (["database"], ["tablespace"]):
        return " ".join(words[:2]).upper()
    if words[:2] == ["create", "subscription"] and not {"connect", "create_slot"} & set(words):
        return "CREATE SUBSCRIPTION"
    return None


def _refused_maintenance(words: Sequence[str]) -> str | None:
    if words[0] == "vacuum":
        return "VACUUM"
    if words in (["cluster"], ["cluster", "verbose"]):
        return "CLUSTER"
    return "DISCARD ALL" if words[:2] == ["discard", "all"] else None
