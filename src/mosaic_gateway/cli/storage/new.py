"""The verb ``storage new``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.verb_decorator import verb
from mosaic_gateway.hint import Text, command
from mosaic_gateway.installation.layout import Home

__all__ = ["new"]


@click.command(short_help="Create the next migration file.")
@click.argument("name")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    metavar="DIR",
    help="A folder of migrations, or an empty folder.",
)
@verb("storage new", at_home=lambda _options: False)
def new(home: Home, *, name: str, directory: Path) -> Outcome:
    """Create the next migration, called NAME: its file and its journal entry; updates the hash lock if there is one.

    In a folder in the layout of drizzle-kit 1.0, which has no journal, it is a folder named by the time.

    Works only on the folder: no installation is needed.
    """
    from mosaic_gateway.migrations.authoring import new_migration

    del home
    created = new_migration(directory, name, now=time.time_ns() // 1_000_000)
    return Outcome(
        result={
            "tag": created.tag,
            "file": str(created.file),
            "index": created.index,
            "when": created.when,
            "locked": created.locked,
        },
        lines=(f"Created {created.file}", *_next_steps(directory, locked=created.locked)),
    )


def _next_steps(directory: Path, *, locked: bool) -> tuple[Text, ...]:
    check = "Write its statements, then run: " + command("storage lint", str(directory))
    if not locked:
        return (check,)
    return (check, f"Then update the hash lock: python -m mosaic_gateway.migrations.gate {directory}")
