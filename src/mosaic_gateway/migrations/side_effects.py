"""Effects of a statement on its session, and whether any of its effects outlive the session. Pure.

Decided from the words of the statement, and conservatively: a function may do anything. A wrong guess in that direction
costs one more statement or a question to the operator; in the other direction it would cost data.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from mosaic_gateway.migrations.lexer import Token, lex

__all__ = [
    "begins_create_temporary",
    "block_of",
    "creates_temporary",
    "drops_on_commit",
    "first_persistent",
    "first_words",
    "is_cursor_of_transaction",
    "is_word",
    "may_set_session",
    "sets_session",
    "starts_statement",
    "temporary_names",
]

Tokens = tuple[Token, ...]

SESSION_WORDS = ("set", "reset", "discard")
TEMPORARY = ("temp", "temporary")
BEFORE_TEMPORARY = ("or", "replace", "local", "global")
CHANGES = ("insert", "update", "delete", "merge", "truncate", "into")
#: Statements that call functions: at the top level, and in the body of a DO block in PL/pgSQL.
QUERIES = ("select", "with", "values", "call", "execute")
EVALUATES = (*QUERIES, "perform", "declare", "if", "case", "while", "for", "return", "raise", "assert")
#: The first of these words begins the expressions of a statement; names and column definitions precede it.
EXPRESSIONS = ("select", "values", "set", "where", "using", "with", "execute", "returning")
#: Words before a parenthesis that never name a function (PostgreSQL, appendix C, SQL Key Words).
NO_FUNCTION = frozenset({
    "all", "and", "any", "array", "as", "by", "case", "distinct", "else", "except", "exists", "filter", "from", "in",
    "intersect", "is", "join", "lateral", "not", "on", "or", "over", "row", "select", "set", "some", "then", "union",
    "using", "values", "when", "where", "with",
})  # fmt: skip
#: Words that create a cursor or a prepared statement.
DECLARES = ("declare", "prepare")
BEGINNINGS = ("begin", "then", "else", "loop")
#: Forms of SET whose effect ends with the transaction.
SET_LOCALLY = ("local", "transaction", "constraints")
#: Statements whose effect ends with the transaction, beside SET and DECLARE.
SCOPED = ("lock", "savepoint", "release", "fetch", "move", "close")


def is_word(token: Token, *texts: str) -> bool:
    """Return whether *token* is one of the unquoted words *texts*."""
    return token.kind == "word" and token.text in texts


def first_words(statement: Tokens, count: int) -> tuple[str, ...]:
    """Return the leading unquoted words among the first *count* tokens of a statement."""
    words = []
    for token in statement[:count]:
        if token.kind != "word":
            break
        words.append(token.text)
    return tuple(words)


def sets_session(statement: Tokens) -> bool:
    """Return whether *statement*, or one in its DO block, is a SET, RESET or DISCARD that outlives the transaction."""
    if is_word(statement[0], *SESSION_WORDS):
        return not _sets_locally(statement)
    return any(
        is_word(token, *SESSION_WORDS) and starts_statement(inner, index) and not _sets_locally(inner[index:])
        for inner in block_of(statement)
        for index, token in enumerate(inner)
    )


def may_set_session(statement: Tokens) -> bool:
    """Return whether *statement* may change settings through functions, procedures or dynamic SQL that it calls."""
    if not is_word(statement[0], "do"):
        return is_word(statement[0], *QUERIES)
    words = [token.text for token in statement if token.kind == "word"]
    if "language" in words and "plpgsql" not in words:
        return True
    return any(is_word(token, *EVALUATES) for inner in block_of(statement) for token in inner)


def creates_temporary(statement: Tokens) -> bool:
    """Return whether *statement*, or one in its DO block, creates objects that end with the session."""
    if is_word(statement[0], *DECLARES):
        return not is_cursor_of_transaction(statement)
    if _creates_temporary(statement):
        return True
    return any(
        _creates_temporary(inner[index:])
        for inner in block_of(statement)
        for index, token in enumerate(inner)
        if is_word(token, "create") or index == 0
    )


def _creates_temporary(statement: Tokens) -> bool:
    if begins_create_temporary(first_words(statement, 5)):
        return drops_on_commit(statement) != "DROP"
    return _selects_into_temporary(statement)


def is_cursor_of_transaction(statement: Tokens) -> bool:
    """Return whether *statement* is a DECLARE of a cursor that is closed with its transaction."""
    words = [token.text for token in statement if token.kind == "word"]
    held = any(pair == ("with", "hold") for pair in pairwise(words))
    return is_word(statement[0], "declare") and not held


def drops_on_commit(statement: Tokens) -> str | None:
    """Return ``DROP`` or ``DELETE ROWS`` if *statement* has such an ON COMMIT clause, None if it has not."""
    words = [token.text if token.kind == "word" else "" for token in statement]
    for index, pair in enumerate(pairwise(words)):
        if pair == ("on", "commit") and words[index + 2 : index + 3] in (["drop"], ["delete"]):
            return "DROP" if words[index + 2] == "drop" else "DELETE ROWS"
    return None


def starts_statement(tokens: Tokens, index: int) -> bool:
    """Return whether the token at *index* is the first one of a statement, at the top level or in a block."""
    return index == 0 or is_word(tokens[index - 1], *BEGINNINGS)


def _sets_locally(statement: Tokens) -> bool:
    return is_word(statement[0], "set") and len(statement) > 1 and is_word(statement[1], *SET_LOCALLY)


def first_persistent(chunks: Sequence[Sequence[Tokens]]) -> int | None:
    """Return the index of the first of *chunks* that may have effects beyond the session, None if there is none.

    Temporary tables, changes of temporary tables that these chunks created, and settings end with the session.
    """
    created: set[str] = set()
    for index, statements in enumerate(chunks):
        if not statements or not all(_ends_with_session(statement, created) for statement in statements):
            return index
    return None


def temporary_names(statements: Sequence[Tokens]) -> set[str] | None:
    """Return the names of the temporary objects that *statements* create, None if they cannot all be determined."""
    names: set[str] = set()
    for statement in statements:
        words = first_words(statement, 5)
        if drops_on_commit(statement) == "DROP" or is_cursor_of_transaction(statement):
            continue
        if begins_create_temporary(words):
            created = _names_after(statement, ("table", "view", "sequence", "exists"), within=8)
        elif is_word(statement[0], *DECLARES):
            created = _names_after(statement, DECLARES, within=1)
        elif creates_temporary(statement) or any(token.text.lower() == "pg_temp" for token in statement):
            return None
        else:
            continue
        if not created:
            return None
        names |= created
    return names


def _ends_with_session(statement: Tokens, created: set[str]) -> bool:
    """Return whether all effects of *statement* end with the session; adds temporary names to *created*."""
    if is_word(statement[0], *SESSION_WORDS):
        # If pg_temp is not first in the search path, a temporary name may refer to a permanent table.
        return not any(token.text.lower() == "pg_temp" for token in statement)
    if any(is_word(token, *CHANGES) for token in statement[2:]) or _calls_function(statement):
        return False
    words = first_words(statement, 5)
    if begins_create_temporary(words):
        created |= _names_after(statement, ("table", "view", "sequence", "exists"), within=8)
        return True
    return is_word(statement[0], *DECLARES, *SCOPED) or bool(_changed(statement, words) & created)


def _changed(statement: Tokens, words: tuple[str, ...]) -> set[str]:
    """Return the name of the one table that *statement* changes, empty if it cannot be determined."""
    if words[:2] in {("insert", "into"), ("delete", "from")} or words[:1] in {("update",), ("analyze",)}:
        return _names_after(statement, ("into", "from", "update", "only", "analyze"), within=3)
    if words[:2] in {("create", "index"), ("create", "unique")}:
        return _names_after(statement, ("on",), within=8)
    return set()


def _names_after(statement: Tokens, words: tuple[str, ...], *, within: int) -> set[str]:
    """Return the unqualified or pg_temp name that follows the last of *words* among the first *within* tokens."""
    names: set[str] = set()
    for index, token in enumerate(statement[:within]):
        if not is_word(token, *words) or index + 1 == len(statement):
            continue
        name, *rest = statement[index + 1 : index + 4]
        if is_word(name, "pg_temp") and len(rest) == 2 and rest[0].text == ".":  # noqa: PLR2004 - a dot and a name
            names = {rest[1].text}
        elif name.kind in {"word", "name"}:
            names = set() if rest and rest[0].text == "." else {name.text}
    return names


def begins_create_temporary(words: tuple[str, ...]) -> bool:
    """Return whether a statement with these leading *words* is a CREATE TEMP in any spelling."""
    if words[:1] != ("create",):
        return False
    return next((word for word in words[1:] if word not in BEFORE_TEMPORARY), None) in TEMPORARY


def _selects_into_temporary(statement: Tokens) -> bool:
    """Return whether *statement* is a SELECT … INTO TEMP in any spelling."""
    positions = (
        index
        for index, token in enumerate(statement)
        if is_word(token, "into") and index and not is_word(statement[index - 1], "insert", "merge")
    )
    return any(is_word(token, *TEMPORARY) for index in positions for token in statement[index + 1 : index + 3])


def block_of(statement: Tokens) -> tuple[Tokens, ...]:
    """Return the statements in the body of a DO block, empty for any other statement."""
    if not is_word(statement[0], "do"):
        return ()
    text = next((token.text for token in statement if token.kind == "text"), "")
    return lex(text).statements()


def _calls_function(statement: Tokens) -> bool:
    """Return whether an expression of *statement* contains what looks like a call of a function."""
    start = next((index for index, token in enumerate(statement) if is_word(token, *EXPRESSIONS)), len(statement))
    return any(
        name.kind in {"word", "name"} and following.text == "(" and not is_word(name, *NO_FUNCTION)
        for name, following in pairwise(statement[start:])
    )
