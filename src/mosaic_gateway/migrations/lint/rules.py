"""The list of all rules that check SQL, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from mosaic_gateway.migrations.lint import breaking, locking, nontransactional, session, text, transactions
from mosaic_gateway.migrations.lint.allow import Allowance, allowances_of
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import SqlFile, read_script

__all__ = ["SCRIPT_RULES", "check_files"]

SCRIPT_RULES: tuple[Callable[[SqlFile], Iterator[LintFinding]], ...] = (
    text.check_chunks,
    text.check_copy,
    transactions.check_transaction_control,
    transactions.check_transaction_scope,
    transactions.check_enum_values,
    nontransactional.check_own_chunk,
    nontransactional.check_concurrently_if_not_exists,
    session.check_temporary_objects,
    session.check_session_settings,
    breaking.check_breaking,
    locking.check_locking,
)


def check_files(files: Mapping[str, bytes]) -> tuple[list[LintFinding], list[Allowance]]:
    """Return the findings for SQL files (name → bytes), and the allowances in their comments."""
    findings: list[LintFinding] = []
    allowances: list[Allowance] = []
    for file, content in files.items():
        faults = list(text.check_bytes(file, content))
        findings += faults
        if any(fault.rule is Rule.ENCODING for fault in faults):
            continue
        script = read_script(file, content.decode("utf-8-sig"))
        for rule in SCRIPT_RULES:
            findings += rule(script)
        allowed, faulty = allowances_of(script)
        allowances += allowed
        findings += faulty
    return findings, allowances
