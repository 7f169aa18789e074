"""storage resolve."""

from __future__ import annotations

from pathlib import Path

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.storage.target import open_place, place_options, uses_home, with_bundle
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.layout import Home

__all__ = ["resolve"]


@click.command(short_help="Say what became of a statement that was cut off.")
@click.argument("tag")
@click.option("--applied", is_flag=True, help="It took effect: go on behind it.")
@click.option("--retry", is_flag=True, help="It did not: run it again.")
@place_options
@verb("storage resolve", at_home=uses_home)
def resolve(
    home: Home,
    *,
    tag: str,
    applied: bool,
    retry: bool,
    folder: Path | None,
    database_url: str | None,
    database_url_file: Path | None,
) -> Outcome:
    """ResolveAnswer for the statement of TAG that was cut off, or that failed and was done by hand. Runs nothing."""
    from mosaic_gateway.gateway.migration_file_lock import migration_file_lock
    from mosaic_gateway.migrations.lock import DEFAULT_LOCK_TIMEOUT
    from mosaic_gateway.migrations.resolve import ResolveAnswer
    from mosaic_gateway.migrations.resolve import resolve as answer_for

    if applied == retry:
        raise UsageError("give either --applied or --retry", hint="Look first whether the statement took effect.")
    with (
        open_place(
            home, "resolve", folder=folder, database_url=database_url, database_url_file=database_url_file
        ) as place,
        migration_file_lock(place.config, DEFAULT_LOCK_TIMEOUT),
    ):
        answer = ResolveAnswer.APPLIED if applied else ResolveAnswer.RETRY
        resolution = answer_for(with_bundle(place, tag), place.connection, tag, answer)
    if resolution.finished:
        line = f"{tag} is applied."
    elif applied:
        line = f"Statement {resolution.statement} of {tag} counts as applied; migrate goes on behind it."
    else:
        line = f"Statement {resolution.statement} of {tag} is run again by the next migrate."
    return Outcome(
        result={"tag": tag, "statement": resolution.statement, "answer": answer, "finished": resolution.finished},
        lines=(line,),
    )
