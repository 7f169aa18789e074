"""``-- lint: allow RULE[, RULE] reason``: what a file's author allows, and why.

Before the first statement of a file it holds for the whole file (and for what the journal says of
it), elsewhere for its chunk. Without a reason it allows nothing, and one that is not needed is told.
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
EXAMPLE = "Write -- lint: allow RULE[, RULE] and the reason, with rules from docs/lint.md."
ALLOWED = frozenset(rule.value for rule in Rule if rule not in META_RULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """One rule that a comment on ``line`` of ``file`` allows in ``lines``; None: in the whole file."""

    file: str
    line: int
    rule: Rule
    lines: range | None

    def covers(self, finding: LintFinding) -> bool:
        """Return whether *finding* is allowed by this."""
        if finding.rule is not self.rule:
            return False
        if self.lines is None:
            return self.file in {finding.file, finding.subject}
        return self.file == finding.file and finding.line in self.lines


def allowances_of(script: SqlFile) -> tuple[tuple[Allowance, ...], tuple[LintFinding, ...]]:
    """Return what the comments of a file allow, and what is wrong with them."""
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
    """Yield the findings that nothing allows, then a finding for each allowance that allows nothing."""
    waiting: Mapping[Allowance, None] = dict.fromkeys(allowances)
    used: set[Allowance] = set()
    for finding in findings:
        covering = [allowance for allowance in waiting if allowance.covers(finding)]
        used.update(covering)
        if not covering:
            yield finding
    for allowance in waiting:
        if allowance not in used:
            why = f"{allowance.rule} is allowed here, but there is nothing to allow"
            yield LintFinding(
                rule=Rule.UNUSED_ALLOW,
                file=allowance.file,
                line=allowance.line,
                why=why,
                instead="Remove it, or put it into the chunk that it is meant for.",
            )


def _directives(chunk: Chunk) -> Iterator[tuple[int, str]]:
    """Yield position and text of the comments in *chunk* that are for lint; a quoted text holds none."""
    for match in DIRECTIVE.finditer(chunk.text):
        before = chunk.text[: match.start()]
        # Where a quote opens something, the place is outside of quotes and of comments alike.
        if lex(before).closed and not lex(f"{before}'").closed:
            yield match.start(), match[1].strip()


def _parse(text: str) -> tuple[tuple[Rule, ...], str]:
    """Return the rules that a comment allows, and what is wrong with it (empty: nothing)."""
    match = FORM.fullmatch(text)
    if match is None:
        return (), f"{text!r} is not understood"
    names = [name.strip() for name in match[1].split(",")]
    unknown = [name for name in names if name not in ALLOWED]
    if unknown:
        return (), f"there is no such rule to allow: {', '.join(unknown)}"
    if not match[2]:
        return (), "the reason is missing, so nothing is allowed"
    return tuple(Rule(name) for name in names), ""
