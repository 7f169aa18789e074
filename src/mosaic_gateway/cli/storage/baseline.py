"""storage baseline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.storage.target import open_place, place_options, uses_home, with_bundle
from mosaic_gateway.cli.verb import verb
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    import psycopg

__all__ = ["baseline"]


@click.command(short_help="Take over a database that was made by other means.")
@click.option("--to", "tag", required=True, metavar="TAG", help="The last migration that the database holds.")
@click.option("--accept-differences", is_flag=True, help="Write the ledger although the schemas differ.")
@click.option("--dry-run", is_flag=True, help="Only compare.")
@place_options
@verb("storage baseline", at_home=uses_home)
def baseline(
    home: Home,
    *,
    tag: str,
    accept_differences: bool,
    dry_run: bool,
    folder: Path | None,
    database_url: str | None,
    database_url_file: Path | None,
) -> Outcome:
    """Hold the migrations up to TAG for applied, after comparing the schema with the one that they make.

    They are run in a scratch database on the same server, which is dropped again (PGlite: in a second one). A
    difference is shown and nothing is written, unless --accept-differences is given.
    """
    from psycopg.conninfo import make_conninfo

    from mosaic_gateway.engines.session import connect
    from mosaic_gateway.gateway.migration_file_lock import migration_file_lock
    from mosaic_gateway.migrations.baseline import baseline as take_over
    from mosaic_gateway.migrations.baseline import scratch_on
    from mosaic_gateway.migrations.lock import DEFAULT_LOCK_TIMEOUT

    with (
        open_place(
            home, "baseline", folder=folder, database_url=database_url, database_url_file=database_url_file
        ) as place,
        migration_file_lock(place.config, DEFAULT_LOCK_TIMEOUT),
    ):
        bundle = with_bundle(place, tag)

        def open_other(name: str) -> psycopg.Connection[Any]:
            return connect(make_conninfo(place.conninfo, dbname=name), application_name="mosaic-gateway baseline")

        @contextmanager
        def empty() -> Iterator[psycopg.Connection[Any]]:
            if place.engine is not EngineName.PGLITE:
                with scratch_on(place.connection, open_other) as connection:
                    yield connection
                return
            from mosaic_gateway.engines.pglite.scratch_database import scratch_database

            with (
                scratch_database(place.config) as conninfo,
                closing(connect(conninfo, application_name="mosaic-gateway baseline")) as connection,
            ):
                yield connection

        done = take_over(
            bundle,
            place.connection,
            empty,
            to=tag,
            others=[other for other in place.bundles if other is not bundle],
            accept_differences=accept_differences,
            dry_run=dry_run,
        )
    verdict = f"{len(done.differences)} difference(s) to the schema of {tag}" if done.differences else "no difference"
    action = f"{len(done.tags)} migration(s) now count as applied" if done.written else "nothing was written"
    return Outcome(
        result={"tags": list(done.tags), "differences": list(done.differences), "written": done.written},
        lines=(*(f"  {line}" for line in done.differences), f"{bundle.name}: {verdict}; {action}."),
    )
