"""The group ``storage``."""

from __future__ import annotations

from collections.abc import Mapping

from mosaic_gateway.cli.lazy import LazyGroup

__all__ = ["storage"]

_HERE = "mosaic_gateway.cli.storage"
VERBS: Mapping[str, tuple[str, str, str]] = {
    "status": (f"{_HERE}.status", "status", "Which migrations are applied, half applied, pending."),
    "plan": (f"{_HERE}.plan", "plan", "What migrate would run, statement by statement; writes nothing."),
    "migrate": (f"{_HERE}.migrate", "migrate", "Apply the pending migrations."),
    "resolve": (f"{_HERE}.resolve", "resolve", "Say what became of a statement that was cut off."),
    "baseline": (f"{_HERE}.baseline", "baseline", "Take over a database that was made by other means."),
    "lint": (f"{_HERE}.lint", "lint", "Look for what goes wrong in migration files."),
    "new": (f"{_HERE}.new", "new", "Begin the next migration."),
}

storage = LazyGroup("storage", commands_at=VERBS, help="Look at the database schema and bring it up to date.")
