"""PostgreSQL's own checks of a cluster: pg_checksums and pg_amcheck, where the programs include them."""

from __future__ import annotations

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from mosaic_gateway.engines import postgres
from mosaic_gateway.process import CommandFailedError, run

__all__ = ["check_indexes", "check_pages"]

LIMIT = 3600.0  # seconds for each


def check_pages(cluster: Path, runtime: postgres.Runtime) -> tuple[str, ...]:
    """Verify the checksum of every page of the stopped *cluster*, if data checksums are enabled.

    Returns the name of the check, none if it was not possible. Raises CommandFailedError.
    """
    program = runtime.bindir / "pg_checksums"
    return _checked([program, "--check", "-D", cluster], unless="data checksums are not enabled")


def check_indexes(conninfo: str, runtime: postgres.Runtime) -> tuple[str, ...]:
    """Check tables and B-tree indexes of the database at *conninfo*. Returns and raises as `check_pages` does."""
    server = {name: str(value) for name, value in conninfo_to_dict(conninfo).items()}
    words = ["-h", server["host"], "-p", server["port"], "-U", server["user"], "-w", "--install-missing"]
    words.append(server["dbname"])
    return _checked([runtime.bindir / "pg_amcheck", *words], unless='extension "amcheck" is not available')


def _checked(words: list[Path | str], *, unless: str) -> tuple[str, ...]:
    program = Path(words[0])
    if not program.is_file():
        return ()
    try:
        run(words, timeout=LIMIT)
    except CommandFailedError as error:
        if unless in error.message:
            return ()
        raise
    return (program.name,)
