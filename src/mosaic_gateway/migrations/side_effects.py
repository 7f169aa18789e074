"""Effects of a statement: whether it may change its session, and whether it has effects beyond it. Pure.

Derived from the statement's tokens, conservatively: a function that is not known may have any effect. An error on
that side costs some time or a question to the user; an error on the other side could lose data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mosaic_gateway.migrations.lexer import Token, lex

__all__ = [
    "creates_temporary",
    "first_persistent",
    "first_words",
    "is_word",
    "may_set_session",
    "sets_session",
    "temporary_names",
]

Tokens = tuple[Token, ...]

SESSION_WORDS = ("set", "reset", "discard")
TEMPORARY = ("temp", "temporary")
BEFORE_TEMPORARY = ("or", "replace", "local", "global")
CHANGES = ("insert", "update", "delete", "merge", "truncate", "into")
#: Functions without side effects that migrations commonly call.
HARMLESS = {
    "array_agg", "avg", "clock_timestamp", "coalesce", "concat", "count", "current_setting", "date_trunc", "format",
    "gen_random_uuid", "generate_series", "greatest", "jsonb_agg", "jsonb_build_object", "least", "length", "lower",
    "max", "md5", "min", "now", "nullif", "pg_sleep", "quote_ident", "quote_literal", "random", "replace", "round",
    "row_number", "string_agg", "substring", "sum", "to_regclass", "to_regtype", "trim", "unnest", "upper",
}  # fmt: skip
#: Keywords and type names that may precede a parenthesis.
GRAMMAR = {
    "all", "and", "any", "array", "as", "between", "bit", "by", "case", "cast", "char", "character", "check",
    "conflict", "decimal", "default", "distinct", "else", "enum", "except", "exists", "extract", "filter", "from",
    "halfvec", "having", "if", "in", "include", "interval", "intersect", "is", "join", "key", "lateral", "limit", "not",
    "numeric", "offset", "on", "or", "over", "range", "returning", "row", "select", "set", "some", "table", "then",
    "time", "timestamp", "timestamptz", "union", "unique", "using", "values", "varbit", "varchar", "varying", "vector",
    "when", "where", "with", "within",
}  # fmt: skip
#: Words followed by the name of a table, index method or similar; a parenthesis after that name lists columns.
BEFORE_NAME = ("table", "view", "into", "exists", "references", "using", "constraint", "recursive", "with")
#: Words that create a cursor or a prepared statement.
DECLARES = ("declare", "prepare")
BEGINNINGS = ("begin", "then", "else", "loop")


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
    """Return whether *statement*, or one in its DO block, is a SET, RESET or DISCARD."""
    if is_word(statement[0], *SESSION_WORDS):
        return True
    return any(
        is_word(token, *SESSION_WORDS) and (index == 0 or is_word(inner[index - 1], *BEGINNINGS))
        for inner in _body(statement)
        for index, token in enumerate(inner)
    )


def may_set_session(statement: Tokens) -> bool:
    """Return whether *statement* may change settings through functions, procedures or dynamic SQL that it calls."""
    if is_word(statement[0], "call", "execute"):
        return True
    if is_word(statement[0], "select", "with", "values"):
        return any(_unknown_calls(statement))
    if not is_word(statement[0], "do"):
        return False
    words = [token.text for token in statement if token.kind == "word"]
    if "language" in words and "plpgsql" not in words:
        return True
    body = _body(statement)
    return any(is_word(token, "execute", "call") for inner in body for token in inner) or any(
        call for inner in body for call in _unknown_calls(inner)
    )


def creates_temporary(statement: Tokens) -> bool:
    """Return whether *statement*, or one in its DO block, creates objects that end with the session."""
    words = first_words(statement, 5)
    if is_word(statement[0], *DECLARES) or _begins_create_temporary(words) or _selects_into_temporary(statement):
        return True
    return any(
        _begins_create_temporary(first_words(inner[index:], 5)) or _selects_into_temporary(inner)
        for inner in _body(statement)
        for index, token in enumerate(inner)
        if is_word(token, "create") or index == 0
    )


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
        if _begins_create_temporary(words):
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
    if any(is_word(token, *CHANGES) for token in statement[2:]) or any(_unknown_calls(statement)):
        return False
    words = first_words(statement, 5)
    if _begins_create_temporary(words):
        created |= _names_after(statement, ("table", "view", "sequence", "exists"), within=8)
        return True
    return is_word(statement[0], *DECLARES) or bool(_changed(statement, words) & created)


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


def _begins_create_temporary(words: tuple[str, ...]) -> bool:
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


def _body(statement: Tokens) -> tuple[Tokens, ...]:
    """Return the statements in the body of a DO block, empty for any other statement."""
    if not is_word(statement[0], "do"):
        return ()
    text = next((token.text for token in statement if token.kind == "text"), "")
    return lex(text).statements()


def _unknown_calls(statement: Tokens) -> Iterator[str]:
    """Yield the names before parentheses that may be functions with side effects."""
    indexed = any(is_word(token, "index") for token in statement)
    for index, token in enumerate(statement[:-1]):
        if token.kind not in {"word", "name"} or statement[index + 1] != Token(
            "other", "(", statement[index + 1].position
        ):
            continue
        first = index
        while first >= 2 and statement[first - 1].text == ".":  # noqa: PLR2004 - a name and a dot
            first -= 2
        before = statement[first - 1] if first else None
        if before is not None and (is_word(before, *BEFORE_NAME) or (indexed and is_word(before, "on"))):
            continue
        plain = first == index or is_word(statement[first], "pg_catalog")
        known = token.kind == "word" and (token.text in HARMLESS or (first == index and token.text in GRAMMAR))
        if not (plain and known):
            yield token.text
