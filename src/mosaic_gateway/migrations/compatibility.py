"""Which migrations a gateway of the version before does not bear while it runs.

Lint finds what breaks such a gateway, and lets it pass only where the file says ``-- lint: allow RULE reason``. So in
packaged migrations, which are held against lint by a test, the allowance is the mark; no parser of SQL is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mosaic_gateway.migrations.lint.finding import Rule
from mosaic_gateway.migrations.model import Migration

__all__ = ["breaking"]

BREAKING = frozenset({Rule.DROP_TABLE, Rule.DROP_COLUMN, Rule.RENAME, Rule.TYPE_CHANGE, Rule.NOT_NULL})
ALLOWANCE = re.compile(r"--[ \t]*lint[ \t]*:[ \t]*allow[ \t]+([\w-]+(?:[ \t]*,[ \t]*[\w-]+)*)")


def breaking(migrations: Iterable[Migration]) -> tuple[str, ...]:
    """Return the tags of those *migrations* that break a gateway of the version before. Pure."""
    return tuple(migration.tag for migration in migrations if _allowed(migration) & BREAKING)


def _allowed(migration: Migration) -> set[str]:
    text = "\n".join(statement.sql for statement in migration.statements)
    return {name.strip() for match in ALLOWANCE.finditer(text) for name in match[1].split(",")}
