"""The group ``storage``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from mosaic_gateway.cli.root import LazyGroup

__all__ = ["storage"]

_HERE = "mosaic_gateway.cli.storage"
VERBS: Mapping[str, tuple[str, str, str]] = {
    "status": (f"{_HERE}.status", "status", "Show which migrations are applied, half applied or pending."),
    "plan": (f"{_HERE}.status", "plan", "Show the statements that migrate would run; write nothing."),
    "migrate": (f"{_HERE}.migrate", "migrate", "Apply the pending migrations."),
    "resolve": (f"{_HERE}.ledger", "resolve", "Record whether an interrupted statement took effect."),
    "baseline": (f"{_HERE}.ledger", "baseline", "Adopt a database whose schema was created by other means."),
}
AUTHORING: Mapping[str, tuple[str, str, str]] = {
    "lint": (f"{_HERE}.authoring", "lint", "Check migration files for unsafe statements."),
    "new": (f"{_HERE}.authoring", "new", "Create the next migration file."),
}
#: The program copy of an installation has no verbs for authors of migrations.
_OFFERED = VERBS if find_spec(f"{_HERE}.authoring") is None else {**VERBS, **AUTHORING}

storage = LazyGroup("storage", commands_at=_OFFERED, help="Inspect and migrate the database schema.")
