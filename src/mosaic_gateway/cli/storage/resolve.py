"""The verb ``storage resolve``."""

from __future__ import annotations

from typing import Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.storage.target import bundle_with, database_verb, open_target
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.layout import Home

__all__ = ["resolve"]


@click.command(short_help="Record whether an interrupted statement took effect.")
@click.argument("tag")
@click.option("--applied", is_flag=True, help="It took effect: continue after it.")
@click.option("--retry", is_flag=True, help="It did not take effect: run it again.")
@database_verb("storage resolve")
def resolve(home: Home, *, tag: str, applied: bool, retry: bool, **where: Any) -> Outcome:
    """Record the outcome of a statement of migration TAG that was interrupted, or that failed and was run by hand.

    Runs nothing of the migration.
    """
    from mosaic_gateway.gateway.migration_file_lock import migrations_locked
    from mosaic_gateway.migrations.advisory_lock import DEFAULT_LOCK_TIMEOUT
    from mosaic_gateway.migrations.resolution import ResolveAnswer
    from mosaic_gateway.migrations.resolution import resolve as record_answer

    if applied == retry:
        raise UsageError("give either --applied or --retry", hint="Check first whether the statement took effect.")
    with (
        open_target(home, "resolve", **where) as target,
        migrations_locked(target.config, DEFAULT_LOCK_TIMEOUT),
    ):
        answer = ResolveAnswer.APPLIED if applied else ResolveAnswer.RETRY
        resolution = record_answer(bundle_with(target, tag), target.connection, tag, answer)
    if resolution.finished:
        line = f"{tag} is applied."
    elif applied:
        line = f"Statement {resolution.statement} of {tag} is recorded as applied; migrate continues after it."
    else:
        line = f"Statement {resolution.statement} of {tag} will be run again by the next migrate."
    return Outcome(
        result={"tag": tag, "statement": resolution.statement, "answer": answer, "finished": resolution.finished},
        lines=(line,),
    )
