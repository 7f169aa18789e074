"""Lint rules with their stable ids and severities, and the finding. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["META_RULES", "SEVERITIES", "LintFinding", "Rule", "Severity"]


class Severity(StrEnum):
    """``ERROR``: the migration fails, loses data, or breaks a running gateway. ``WARNING``: it may do so."""

    ERROR = "error"
    WARNING = "warning"


class Rule(StrEnum):
    """The lint rules; their values are stable ids for scripts and ``-- lint: allow``."""

    # Bytes and chunks of a file.
    ENCODING = "encoding"
    BYTE_ORDER_MARK = "byte-order-mark"
    LINE_ENDINGS = "line-endings"
    SYNTAX_ERROR = "syntax-error"
    UNTERMINATED = "unterminated"
    PSQL_COMMAND = "psql-command"
    COPY_STDIN = "copy-stdin"
    BREAKPOINT_SPELLING = "breakpoint-spelling"
    EMPTY_CHUNK = "empty-chunk"
    EMPTY_MIGRATION = "empty-migration"
    # Each chunk commits alone.
    TRANSACTION_CONTROL = "transaction-control"
    TRANSACTION_SCOPE = "transaction-scope"
    ENUM_VALUE_USED = "enum-value-used"
    NEEDS_OWN_CHUNK = "needs-own-chunk"
    CONCURRENTLY_IF_NOT_EXISTS = "concurrently-if-not-exists"
    TEMPORARY_OBJECT = "temporary-object"
    SESSION_SETTING = "session-setting"
    # Compatibility with a running gateway of the previous version.
    DROP_TABLE = "drop-table"
    DROP_COLUMN = "drop-column"
    RENAME = "rename"
    TYPE_CHANGE = "type-change"
    NOT_NULL = "not-null"
    CONSTRAINT_VALIDATED = "constraint-validated"
    INDEX_NOT_CONCURRENT = "index-not-concurrent"
    # The folder.
    JOURNAL_FORMAT = "journal-format"
    JOURNAL_FILE = "journal-file"
    DUPLICATE_TAG = "duplicate-tag"
    JOURNAL_ORDER = "journal-order"
    JOURNAL_INDEX = "journal-index"
    FILE_NAME = "file-name"
    SAME_BYTES = "same-bytes"
    # Allow comments.
    BAD_ALLOW = "bad-allow"
    UNUSED_ALLOW = "unused-allow"


#: Rules that a comment cannot allow.
META_RULES = frozenset({Rule.BAD_ALLOW, Rule.UNUSED_ALLOW})

_WARNINGS = {
    Rule.BREAKPOINT_SPELLING,
    Rule.EMPTY_CHUNK,
    Rule.CONCURRENTLY_IF_NOT_EXISTS,
    Rule.TEMPORARY_OBJECT,
    Rule.SESSION_SETTING,
    Rule.CONSTRAINT_VALIDATED,
    Rule.INDEX_NOT_CONCURRENT,
    Rule.JOURNAL_ORDER,
    Rule.JOURNAL_INDEX,
    Rule.FILE_NAME,
    Rule.SAME_BYTES,
    Rule.UNUSED_ALLOW,
}
SEVERITIES: Mapping[Rule, Severity] = {rule: Severity.WARNING if rule in _WARNINGS else Severity.ERROR for rule in Rule}


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One finding: ``why`` says what is wrong, ``instead`` what to write.

    ``file`` is the posix name in the bundle, ``line`` counts from 1. ``subject`` is the SQL file whose leading
    comments may allow it, if that is not ``file`` (the journal cannot contain comments).
    """

    rule: Rule
    file: str
    line: int
    why: str
    instead: str
    subject: str = ""

    @property
    def severity(self) -> Severity:
        """The severity of the rule."""
        return SEVERITIES[self.rule]

    def to_dict(self) -> dict[str, str | int]:
        """Return the finding for JSON."""
        return {
            "file": self.file,
            "line": self.line,
            "rule": str(self.rule),
            "severity": str(self.severity),
            "why": self.why,
            "instead": self.instead,
        }
