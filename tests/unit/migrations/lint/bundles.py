"""In-memory bundles for lint."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from mosaic_gateway.migrations.gate import JOURNAL_NAME

BREAKPOINT = "--> statement-breakpoint"
LintOne = Callable[[str | bytes], list[tuple[str, int]]]


def journal_of(*tags: str, whens: Mapping[str, int] | None = None) -> bytes:
    """Return a journal as drizzle-kit writes it."""
    entries = [
        {"idx": i, "version": "7", "when": (whens or {}).get(tag, 1000 + i), "tag": tag, "breakpoints": True}
        for i, tag in enumerate(tags)
    ]
    return json.dumps({"version": "7", "dialect": "postgresql", "entries": entries}, indent=2).encode()


def bundle_of(**files: str | bytes) -> dict[str, bytes]:
    """Return a complete bundle without a lock; *files* maps tag → SQL."""
    contents = {f"{tag}.sql": sql.encode() if isinstance(sql, str) else sql for tag, sql in files.items()}
    return {**contents, JOURNAL_NAME: journal_of(*files)}
