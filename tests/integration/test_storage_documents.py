from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from mosaic_gateway.storage.documents import DocumentStore, RevisionConflictError


def test_documents_round_trip(http_database: str) -> None:
    """Any JSON value is stored under any key, with revision and times."""
    with psycopg.connect(http_database, autocommit=True) as connection:
        store = DocumentStore(connection)
        assert store.get("c", "k") is None
        values: list[object] = [{"ä": [1, 2.5, None, True]}, [], "text", 0, None]
        for value in values:
            assert store.put("c", "k", value).value == value
        document = store.get("c", "k")
        assert document is not None
        assert (document.value, document.revision) == (None, 5)
        assert document.updated_at > document.created_at
        store.put("c", "a k/ey ☃", 1)
        store.put("d", "k", 2)
        assert [listed.key for listed in store.list("c")] == ["a k/ey ☃", "k"]
        assert store.delete("c", "k")
        assert not store.delete("c", "k")
        assert store.list("nothing") == ()


def test_a_stale_revision_is_refused(http_database: str) -> None:
    """A change is refused if another writer changed, created or deleted the document meanwhile."""
    with psycopg.connect(http_database, autocommit=True) as connection:
        store = DocumentStore(connection)
        first = store.put("c", "k", 1, revision=0)
        second = store.put("c", "k", 2, revision=first.revision)
        for revision in (0, first.revision, 99):
            with pytest.raises(RevisionConflictError):
                store.put("c", "k", 3, revision=revision)
        with pytest.raises(RevisionConflictError):
            store.delete("c", "k", revision=first.revision)
        assert store.get("c", "k") == second
        assert store.delete("c", "k", revision=second.revision)
        assert not store.delete("c", "k", revision=second.revision)
        with pytest.raises(RevisionConflictError):
            store.put("c", "k", 3, revision=second.revision)


def test_concurrent_increments(http_database: str) -> None:
    """Four writers that retry after conflicts increment a counter to exactly 40."""

    def count(_: int) -> None:
        with psycopg.connect(http_database, autocommit=True) as connection:
            store = DocumentStore(connection)
            done = 0
            while done < 10:
                document = store.get("c", "n")
                try:
                    if document is None:
                        store.put("c", "n", 1, revision=0)
                    else:
                        store.put("c", "n", document.value + 1, revision=document.revision)
                except RevisionConflictError:
                    continue
                done += 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(4)))
    with psycopg.connect(http_database, autocommit=True) as connection:
        document = DocumentStore(connection).get("c", "n")
    assert document is not None
    assert (document.value, document.revision) == (40, 40)
