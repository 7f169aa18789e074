"""The list of all rules that check SQL, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mosaic_gateway.migrations.lint import breaking, enum_values, locking, nontransactional, session, text, transactions
from mosaic_gateway.migrations.lint.allow import Allowance, allowances_of
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import SqlFile, read_script

__all__ = ["BUNDLE_RULES", "SCRIPT_RULES", "check_files", "unlisted_allowances"]

SCRIPT_RULES: tuple[Callable[[SqlFile], Iterator[LintFinding]], ...] = (
    text.check_chunks,
    text.check_copy,
    transactions.check_transaction_control,
    transactions.check_conflicts,
    nontransactional.check_own_chunk,
    nontransactional.check_concurrently_if_not_exists,
    session.check_temporary_objects,
    session.check_session_settings,
    breaking.check_breaking,
    locking.check_locking,
)
#: Rules that need all files, in the order in which these run.
BUNDLE_RULES: tuple[Callable[[Sequence[SqlFile]], Iterator[LintFinding]], ...] = (
    enum_values.check_enum_values,
    nontransactional.check_commits_itself,
    session.check_local_settings,
)


def check_files(files: Mapping[str, bytes]) -> tuple[list[LintFinding], list[Allowance]]:
    """Return the findings for SQL files (name → bytes, in the order in which they run), and their allowances."""
    findings: list[LintFinding] = []
    allowances: list[Allowance] = []
    scripts: list[SqlFile] = []
    for file, content in files.items():
        faults = list(text.check_bytes(file, content))
        findings += faults
        if any(fault.rule is Rule.ENCODING for fault in faults):
            continue
        script = read_script(file, content.decode("utf-8-sig"))
        scripts.append(script)
        for rule in SCRIPT_RULES:
            findings += rule(script)
        allowed, faulty = allowances_of(script)
        allowances += allowed
        findings += faulty
    for bundle_rule in BUNDLE_RULES:
        findings += bundle_rule(scripts)
    return findings, allowances


def unlisted_allowances(files: Mapping[str, bytes]) -> list[Allowance]:
    """Return the allowances for being in the folder in SQL files that never run; these are not checked otherwise."""
    allowances: list[Allowance] = []
    for file, content in files.items():
        found, _ = allowances_of(read_script(file, content.decode("utf-8-sig", errors="replace")))
        allowances += (one for one in found if one.rule is Rule.UNLISTED_FILE)
    return allowances
