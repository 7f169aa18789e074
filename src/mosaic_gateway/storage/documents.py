"""Documents: JSON values under a collection and a key, in table ``storage_documents``.

Each document has a revision: 1 when it is created, incremented by every change. A writer may pass the
revision that it has read; if the document has changed since then, the write is refused (optimistic locking).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from mosaic_gateway.errors import BusyError

__all__ = ["Document", "DocumentStore", "RevisionConflictError"]

COLUMNS = "collection, key, value, revision, created_at, updated_at"
GET = f"SELECT {COLUMNS} FROM storage_documents WHERE collection = %s AND key = %s"  # noqa: S608 - constants only
LIST = f'SELECT {COLUMNS} FROM storage_documents WHERE collection = %s ORDER BY key COLLATE "C"'  # noqa: S608 - constants only
DELETE = (
    "DELETE FROM storage_documents WHERE collection = %s AND key = %s AND revision = coalesce(%s, revision) RETURNING 1"
)
WRITE = (
    "INSERT INTO storage_documents AS d (collection, key, value, revision, created_at, updated_at)"
    " VALUES (%s, %s, %s, 1, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC')"
    " ON CONFLICT (collection, key) DO "
)
CHANGE = "SET value = %s, revision = d.revision + 1, updated_at = now() AT TIME ZONE 'UTC'"
RETURNING = f"RETURNING {COLUMNS}"
PUT = f"{WRITE} UPDATE {CHANGE} {RETURNING}"
ADD = f"{WRITE} NOTHING {RETURNING}"
REPLACE = f"UPDATE storage_documents AS d {CHANGE} WHERE collection = %s AND key = %s AND revision = %s {RETURNING}"


class RevisionConflictError(BusyError):
    """Another writer changed, created or deleted the document since it was read."""

    code = "REVISION_CONFLICT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A stored value. Times are UTC without zone."""

    collection: str
    key: str
    value: Any
    revision: int
    created_at: datetime
    updated_at: datetime


class DocumentStore:
    """Reads and writes documents over *connection* (in autocommit mode, or in a transaction of the caller)."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection = connection

    def get(self, collection: str, key: str) -> Document | None:
        """Return the document, None if there is none."""
        row = self._connection.execute(GET, (collection, key)).fetchone()
        return _document(row) if row else None

    def put(self, collection: str, key: str, value: object, *, revision: int | None = None) -> Document:
        """Write *value*, which must be JSON-serialisable, and return the new document.

        Without *revision* the last writer wins. Revision 0 requires that the document does not exist, another
        number that it has this revision. Raises `RevisionConflictError` otherwise.
        """
        if revision is None:
            row = self._connection.execute(PUT, (collection, key, Jsonb(value), Jsonb(value))).fetchone()
        elif revision == 0:
            row = self._connection.execute(ADD, (collection, key, Jsonb(value))).fetchone()
        else:
            row = self._connection.execute(REPLACE, (Jsonb(value), collection, key, revision)).fetchone()
        if row is None:
            raise _conflict(collection, key, revision)
        return _document(row)

    def delete(self, collection: str, key: str, *, revision: int | None = None) -> bool:
        """Delete the document and return whether it existed. Raises `RevisionConflictError` as `put` does."""
        if self._connection.execute(DELETE, (collection, key, revision)).fetchone() is not None:
            return True
        if revision is not None and self.get(collection, key) is not None:
            raise _conflict(collection, key, revision)
        return False

    def list(self, collection: str) -> tuple[Document, ...]:
        """Return every document of *collection*, ordered by key."""
        return tuple(_document(row) for row in self._connection.execute(LIST, (collection,)).fetchall())


def _document(row: Sequence[Any]) -> Document:
    collection, key, value, revision, created_at, updated_at = row
    return Document(
        collection=collection, key=key, value=value, revision=revision, created_at=created_at, updated_at=updated_at
    )


def _conflict(collection: str, key: str, revision: int | None) -> RevisionConflictError:
    return RevisionConflictError(
        f"{collection}/{key} is no longer at revision {revision}", hint="Read it again and repeat the change."
    )
