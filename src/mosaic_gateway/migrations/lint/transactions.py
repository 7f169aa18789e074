"""What the runner refuses before it runs anything, decided by the runner's own division of a file into transactions."""

from __future__ import annotations

from collections.abc import Iterator

from mosaic_gateway.migrations.groups import Cause
from mosaic_gateway.migrations.lint.finding import LintFinding, Rule
from mosaic_gateway.migrations.lint.source import SqlFile
from mosaic_gateway.migrations.statement_traits import AUTHORIZATION, traits_of

__all__ = ["check_conflicts", "check_transaction_control"]


def check_transaction_control(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements that no migration may contain."""
    for statement in script.statements:
        refused = traits_of(statement.sql).refused
        if refused is None:
            continue
        place = Cause.of(statement, refused)
        if place.name == AUTHORIZATION:
            why = "the runner refuses the file: it writes its records as the user who connected"
            instead = "Use SET ROLE instead: it gives the same privileges."
        else:
            why = f"the runner refuses a file with {place.name.upper()}: a migration is applied entirely or not at all"
            instead = "Remove it from the file. A DO block can catch an expected error."
        yield LintFinding(rule=Rule.TRANSACTION_CONTROL, file=script.file, line=place.line, why=why, instead=instead)


def check_conflicts(script: SqlFile) -> Iterator[LintFinding]:
    """Yield statements that cannot run in the transaction that other statements of the file need."""
    for transaction in script.transactions:
        if transaction.conflict is not None:
            why = f"the runner refuses the file: {transaction.conflict.reason}"
            instead = "Put one of the two into a migration of its own, or a COMMIT between them."
            line = transaction.conflict.what.line
            yield LintFinding(rule=Rule.TRANSACTION_SCOPE, file=script.file, line=line, why=why, instead=instead)
