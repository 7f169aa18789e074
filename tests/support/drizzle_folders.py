"""The folders of tests/drizzle_folders: a small one for each kind of SQL or layout that public repositories have.

``expected.json`` says for each what ``storage migrate`` and ``storage lint`` must do. Everything here reads the folders
without the package's own code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

__all__ = ["FOLDERS", "Folder", "Source", "each_folder", "user_tables"]

Connection = psycopg.Connection[tuple[object, ...]]
DIRECTORY = Path(__file__).parents[1] / "drizzle_folders"
STAMP = 14  # digits before the name of a folder of drizzle-kit 1.0
TABLES = """
SELECT schemaname || '.' || tablename FROM pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema', 'drizzle', 'mosaic') AND schemaname !~ '^pg_' ORDER BY 1
"""
VALID_INDEXES = "SELECT c.relname::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE indisvalid"


class Source(NamedTuple):
    """One migration file as drizzle-orm sees it; ``when`` in milliseconds since the epoch."""

    tag: str
    when: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder and its entry in ``expected.json``."""

    name: str
    expected: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The folder."""
        return DIRECTORY / self.name

    @property
    def sources(self) -> list[Source]:
        """The migrations in the order in which drizzle-orm runs them."""
        journal = self.path / "meta" / "_journal.json"
        if journal.exists():
            entries = json.loads(journal.read_bytes())["entries"]
            return [Source(e["tag"], e["when"], (self.path / f"{e['tag']}.sql").read_bytes()) for e in entries]
        found = sorted(self.path.glob("*/migration.sql"))
        return [Source(p.parent.name, _milliseconds(p.parent.name), p.read_bytes()) for p in found]

    def check(self, connection: Connection) -> None:
        """Compare tables, rows and indexes of a database to which the folder is applied with what is expected."""
        expected = self.expected
        assert expected["migrate"] == "ok"
        if "tables" in expected:
            assert user_tables(connection) == expected["tables"]
        for table, count in expected.get("rows", {}).items():
            assert connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() == (count,)
        valid = {name for (name,) in connection.execute(VALID_INDEXES.encode())}
        assert set(expected.get("valid_indexes", ())) <= valid


def _milliseconds(name: str) -> int:
    moment = datetime.strptime(name[:STAMP], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1000


def user_tables(connection: Connection) -> list[str]:
    """Return the tables outside of the system's schemas, the ledger's and the progress table's, with their schema."""
    return [str(name) for (name,) in connection.execute(TABLES.encode())]


FOLDERS = tuple(
    Folder(name, expected) for name, expected in json.loads((DIRECTORY / "expected.json").read_text()).items()
)
#: Runs a test on each of them.
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
