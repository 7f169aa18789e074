"""The verbs ``storage resolve`` and ``storage baseline``, which record what is applied without running a migration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import click

from mosaic_gateway.cli.envelope import Outcome
from mosaic_gateway.cli.storage.target import bundle_with, database_verb, open_target
from mosaic_gateway.errors import UsageError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home

if TYPE_CHECKING:
    import psycopg

__all__ = ["baseline", "resolve"]


@click.command(short_help="Record whether an interrupted statement took effect.")
@click.argument("tag")
@click.option("--applied", is_flag=True, help="It took effect: continue after it.")
@click.option("--retry", is_flag=True, help="It did not take effect: run it again.")
@database_verb("storage resolve")
def resolve(home: Home, *, tag: str, applied: bool, retry: bool, **where: Any) -> Outcome:
    """Record the outcome of a statement of migration TAG that was interrupted, or that failed and was run by hand.

    Runs nothing of the migration.
    """
    from mosaic_gateway.gateway.schema import migrations_locked
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


@click.command(short_help="Adopt a database whose schema was created by other means.")
@click.option(
    "--to", "tag", required=True, metavar="TAG", help="The last migration whose changes the database already has."
)
@click.option("--accept-differences", is_flag=True, help="Write the ledger even if the schemas differ.")
@click.option("--dry-run", is_flag=True, help="Only compare the schemas; write nothing.")
@database_verb("storage baseline")
def baseline(home: Home, *, tag: str, accept_differences: bool, dry_run: bool, **where: Any) -> Outcome:
    """Record the migrations up to TAG as applied, after comparing the database with the schema that they create.

    For the comparison the migrations are run in a scratch database on the same server, which is then dropped (PGlite:
    in a second instance). If the schemas differ, the differences are listed and nothing is written, unless
    --accept-differences is given.
    """
    from psycopg.conninfo import make_conninfo

    from mosaic_gateway.engines.session import connect
    from mosaic_gateway.gateway.schema import migrations_locked
    from mosaic_gateway.migrations.advisory_lock import DEFAULT_LOCK_TIMEOUT
    from mosaic_gateway.migrations.baselining import baseline as write_baseline
    from mosaic_gateway.migrations.baselining import scratch_on

    with (
        open_target(home, "baseline", **where) as target,
        migrations_locked(target.config, DEFAULT_LOCK_TIMEOUT),
    ):
        bundle = bundle_with(target, tag)

        def open_other(name: str) -> psycopg.Connection[Any]:
            return connect(make_conninfo(target.conninfo, dbname=name), application_name="mosaic-gateway baseline")

        @contextmanager
        def scratch() -> Iterator[psycopg.Connection[Any]]:
            if target.engine is not EngineName.PGLITE:
                with scratch_on(target.connection, open_other) as connection:
                    yield connection
                return
            from mosaic_gateway.engines.pglite.data_creation import scratch_database

            with (
                scratch_database(target.config) as conninfo,
                closing(connect(conninfo, application_name="mosaic-gateway baseline")) as connection,
            ):
                yield connection

        result = write_baseline(
            bundle,
            target.connection,
            scratch,
            to=tag,
            others=[other for other in target.bundles if other is not bundle],
            accept_differences=accept_differences,
            dry_run=dry_run,
        )
    verdict = (
        f"{len(result.differences)} difference(s) from the schema at {tag}" if result.differences else "no difference"
    )
    action = f"{len(result.tags)} migration(s) recorded as applied" if result.written else "nothing was written"
    return Outcome(
        result={"tags": list(result.tags), "differences": list(result.differences), "written": result.written},
        lines=(*(f"  {line}" for line in result.differences), f"{bundle.name}: {verdict}; {action}."),
    )
