"""Lint directives in SQL comments: ``-- lint: allow RULE[, RULE] reason``.

A directive before the first statement of a file applies to the whole file and to its journal entry; any other
applies to its chunk. A directive without a reason has no effect; an unused one is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mosaic_gateway.migrations.lexer import lex
from mosaic_gateway.migrations.lint.finding import META_RULES, LintFinding, Rule
from mosaic_gateway.migrations.lint.source import Chunk, SqlFile

__all__ = ["Allowance", "allowances_of", "apply_allowances"]

DIRECTIVE = re.compile(r"--[ \t]*lint[ \t]*:[ \t]*([^\r\n]*)")
FORM = re.compile(r"allow[ \t]+([\w-]+(?:[ \t]*,[ \t]*[\w-]+)*)(?:[ \t]+(\S.*))?")
EXAMPLE = "Write -- lint: allow RULE[, RULE] and the reason, with rules from docs/reference/lint.md."
ALLOWED = frozenset(rule.value for rule in Rule if rule not in META_RULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """One rule allowed by the comment on ``line`` of ``file``, for ``lines``; None means the whole file."""

    file: str
    line: int
    rule: Rule
    lines: range | None

    def covers(self, finding: LintFinding) -> bool:
        """Return whether *finding* is allowed by this comment."""
        if finding.rule is not self.rule:
            return False
        if self.lines is None:
            return self.file in {finding.file, finding.subject}
        return self.file == finding.file and finding.line in self.lines


def allowances_of(script: SqlFile) -> tuple[tuple[Allowance, ...], tuple[LintFinding, ...]]:
    """Return the allowances in the comments of a file, and a finding for each invalid comment."""
    allowances: list[Allowance] = []
    faults: list[LintFinding] = []
    in_head = True
    for chunk in script.chunks:
        for position, text in _directives(chunk):
            head = in_head and not lex(chunk.text[:position]).tokens
            line = chunk.line_at(position)
            rules, fault = _parse(text)
            if fault:
                faults.append(LintFinding(rule=Rule.BAD_ALLOW, file=script.file, line=line, why=fault, instead=EXAMPLE))
            allowances += (
                Allowance(file=script.file, line=line, rule=rule, lines=None if head else chunk.lines) for rule in rules
            )
        in_head = in_head and not lex(chunk.text).tokens
    return tuple(allowances), tuple(faults)


def apply_allowances(findings: Sequence[LintFinding], allowances: Iterable[Allowance]) -> Iterator[LintFinding]:
    """Yield the findings that are not allowed, then a finding for each unused allowance."""
    unique: Mapping[Allowance, None] = dict.fromkeys(allowances)
    used: set[Allowance] = set()
    for finding in findings:
        covering = [allowance for allowance in unique if allowance.covers(finding)]
        used.update(covering)
        if not covering:
            yield finding
    for allowance in unique:
        if allowance not in used:
            why = f"{allowance.rule} is allowed here, but no finding of that rule occurs"
            yield LintFinding(
                rule=Rule.UNUSED_ALLOW,
                file=allowance.file,
                line=allowance.line,
                why=why,
                instead="Remove the comment, or move it to the chunk that it applies to.",
            )


def _directives(chunk: Chunk) -> Iterator[tuple[int, str]]:
    """Yield position and text of each lint comment in *chunk*; quoted text is not searched."""
    for match in DIRECTIVE.finditer(chunk.text):
        before = chunk.text[: match.start()]
        # If a quote would open a literal here, the position is outside of literals and comments.
        if lex(before).closed and not lex(f"{before}'").closed:
            yield match.start(), match[1].strip()


def _parse(text: str) -> tuple[tuple[Rule, ...], str]:
    """Return the rules that a comment allows, and an error message (empty if it is valid)."""
    match = FORM.fullmatch(text)
    if match is None:
        return (), f"{text!r} is not a valid lint directive"
    names = [name.strip() for name in match[1].split(",")]
    unknown = [name for name in names if name not in ALLOWED]
    if unknown:
        return (), f"unknown rule, or one that cannot be allowed: {', '.join(unknown)}"
    if not match[2]:
        return (), "the reason is missing, so the comment has no effect"
    return tuple(Rule(name) for name in names), ""
