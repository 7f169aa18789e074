"""Lint rules with their stable ids, their severities in both profiles, and the finding. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["META_RULES", "SEVERITIES", "LintFinding", "Profile", "Rule", "Severities", "Severity"]


class Profile(StrEnum):
    """What lint checks for.

    ``SAFETY``: whether the migrations run, and as they run with drizzle-orm. ``RELEASE``: also whether programs of the
    version before can go on using the database, and whether the folder is as drizzle-kit and ``storage new`` write it.
    """

    SAFETY = "safety"
    RELEASE = "release"


class Severity(StrEnum):
    """``ERROR`` makes lint fail, ``WARNING`` only with ``--strict``; ``OFF``: the profile does not report the rule."""

    ERROR = "error"
    WARNING = "warning"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Severities:
    """The severity of a rule in each profile."""

    safety: Severity
    release: Severity

    def of(self, profile: Profile) -> Severity:
        """Return the severity in *profile*."""
        return self.safety if profile is Profile.SAFETY else self.release


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
    ENUM_VALUE_PORTABILITY = "enum-value-portability"
    COMMITS_ITSELF = "commits-itself"
    NEEDS_OWN_CHUNK = "needs-own-chunk"
    CONCURRENTLY_IF_NOT_EXISTS = "concurrently-if-not-exists"
    TEMPORARY_OBJECT = "temporary-object"
    SESSION_SETTING = "session-setting"
    LOCAL_SETTING = "local-setting"
    # Compatibility with programs of the version before.
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
    UNLISTED_FILE = "unlisted-file"
    DUPLICATE_TAG = "duplicate-tag"
    JOURNAL_ORDER = "journal-order"
    JOURNAL_INDEX = "journal-index"
    FILE_NAME = "file-name"
    SAME_BYTES = "same-bytes"
    # Allow comments.
    BAD_ALLOW = "bad-allow"
    UNUSED_ALLOW = "unused-allow"


ERROR, WARNING, OFF = Severity.ERROR, Severity.WARNING, Severity.OFF
#: rule → severities in the profiles safety and release.
SEVERITIES: Mapping[Rule, Severities] = {
    Rule.ENCODING: Severities(ERROR, ERROR),
    Rule.BYTE_ORDER_MARK: Severities(ERROR, ERROR),
    Rule.LINE_ENDINGS: Severities(WARNING, ERROR),
    Rule.SYNTAX_ERROR: Severities(ERROR, ERROR),
    Rule.UNTERMINATED: Severities(ERROR, ERROR),
    Rule.PSQL_COMMAND: Severities(ERROR, ERROR),
    Rule.COPY_STDIN: Severities(ERROR, ERROR),
    Rule.BREAKPOINT_SPELLING: Severities(WARNING, WARNING),
    Rule.EMPTY_CHUNK: Severities(OFF, WARNING),
    Rule.EMPTY_MIGRATION: Severities(OFF, WARNING),
    Rule.TRANSACTION_CONTROL: Severities(ERROR, ERROR),
    Rule.TRANSACTION_SCOPE: Severities(ERROR, ERROR),
    Rule.ENUM_VALUE_USED: Severities(ERROR, ERROR),
    Rule.ENUM_VALUE_PORTABILITY: Severities(WARNING, OFF),
    Rule.COMMITS_ITSELF: Severities(WARNING, WARNING),
    Rule.NEEDS_OWN_CHUNK: Severities(ERROR, ERROR),
    Rule.CONCURRENTLY_IF_NOT_EXISTS: Severities(OFF, WARNING),
    Rule.TEMPORARY_OBJECT: Severities(WARNING, WARNING),
    Rule.SESSION_SETTING: Severities(WARNING, WARNING),
    Rule.LOCAL_SETTING: Severities(WARNING, OFF),
    Rule.DROP_TABLE: Severities(OFF, ERROR),
    Rule.DROP_COLUMN: Severities(OFF, ERROR),
    Rule.RENAME: Severities(OFF, ERROR),
    Rule.TYPE_CHANGE: Severities(OFF, ERROR),
    Rule.NOT_NULL: Severities(WARNING, ERROR),
    Rule.CONSTRAINT_VALIDATED: Severities(OFF, WARNING),
    Rule.INDEX_NOT_CONCURRENT: Severities(OFF, WARNING),
    Rule.JOURNAL_FORMAT: Severities(ERROR, ERROR),
    Rule.JOURNAL_FILE: Severities(ERROR, ERROR),
    Rule.UNLISTED_FILE: Severities(WARNING, ERROR),
    Rule.DUPLICATE_TAG: Severities(ERROR, ERROR),
    Rule.JOURNAL_ORDER: Severities(WARNING, WARNING),
    Rule.JOURNAL_INDEX: Severities(WARNING, WARNING),
    Rule.FILE_NAME: Severities(OFF, WARNING),
    Rule.SAME_BYTES: Severities(OFF, WARNING),
    Rule.BAD_ALLOW: Severities(WARNING, ERROR),
    Rule.UNUSED_ALLOW: Severities(WARNING, WARNING),
}
#: Rules that a comment cannot allow.
META_RULES = frozenset({Rule.BAD_ALLOW, Rule.UNUSED_ALLOW})


@dataclass(frozen=True, slots=True, kw_only=True)
class LintFinding:
    """One finding: ``why`` says what is wrong, ``instead`` what to write.

    ``file`` is the posix name in the bundle, ``line`` counts from 1. ``subject`` is the SQL file whose leading
    comments may allow it, if that is not ``file`` (the journal cannot contain comments). ``profile`` is the one that
    decides on the severity.
    """

    rule: Rule
    file: str
    line: int
    why: str
    instead: str
    subject: str = ""
    profile: Profile = Profile.RELEASE

    @property
    def severity(self) -> Severity:
        """The severity of the rule in the profile."""
        return SEVERITIES[self.rule].of(self.profile)

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
