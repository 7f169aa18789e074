"""Detection of migrations that break a running gateway of the previous version.

Lint rejects such statements unless the file says ``-- lint: allow RULE reason``. Packaged migrations are verified by
lint in a test, so the comments alone identify the breaking ones; no SQL parser is needed at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mosaic_gateway.migrations.model import Migration

__all__ = ["breaking"]

#: Values of `lint.finding.Rule`, which a program copy does not have.
BREAKING = frozenset({"drop-table", "drop-column", "rename", "type-change", "not-null"})
ALLOWANCE = re.compile(r"--[ \t]*lint[ \t]*:[ \t]*allow[ \t]+([\w-]+(?:[ \t]*,[ \t]*[\w-]+)*)")


def breaking(migrations: Iterable[Migration]) -> tuple[str, ...]:
    """Return the tags of those *migrations* that break a gateway of the previous version. Pure."""
    return tuple(migration.tag for migration in migrations if _allowed(migration) & BREAKING)


def _allowed(migration: Migration) -> set[str]:
    text = "\n".join(statement.sql for statement in migration.statements)
    return {name.strip() for match in ALLOWANCE.finditer(text) for name in match[1].split(",")}
